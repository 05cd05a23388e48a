//! Files of records and cases.

use std::io::{self, BufRead, Read as _, Write};

use serde_json::Value;
use thiserror::Error;

use super::case::Case;
use super::json::ShapeError;
use super::record::Record;

/// Longest line of a file of records. A question about 50 messages has some 30 KiB, settings at most 64.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// A file that cannot be read.
#[derive(Debug, Error)]
pub enum RecordFileError {
    /// The operating system said so.
    #[error("line {line}: {error}")]
    Io {
        /// Where, from 1.
        line: usize,
        /// What it said.
        error: io::Error,
    },
    /// A line that is longer than a record can be.
    #[error("line {line}: longer than a record can be: at most {MAX_LINE_BYTES} bytes")]
    TooLong {
        /// Which, from 1.
        line: usize,
    },
    /// A line that is no JSON.
    #[error("line {line}: not JSON: {error}")]
    Json {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// JSON that is no record or case.
    #[error("line {line}: {error}")]
    Shape {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        error: ShapeError,
    },
}

/// Reads records, one from each line; empty lines are passed over.
pub struct RecordReader<R> {
    lines: Lines<R>,
}

impl<R: BufRead> RecordReader<R> {
    /// Reads from the beginning.
    pub fn new(input: R) -> RecordReader<R> {
        RecordReader { lines: Lines { input, line: 0 } }
    }
}

impl<R: BufRead> Iterator for RecordReader<R> {
    type Item = Result<Record, RecordFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = match self.lines.next()? {
            Ok(value) => value,
            Err(error) => return Some(Err(error)),
        };
        let line = self.lines.line;
        Some(Record::from_json(value).map_err(|error| RecordFileError::Shape { line, error }))
    }
}

/// Writes a record as one line.
///
/// # Errors
/// When it cannot be written.
pub fn write_record(output: &mut impl Write, record: &Record) -> io::Result<()> {
    let mut line = record.to_json().to_string();
    line.push('\n');
    output.write_all(line.as_bytes())
}

/// Reads cases: one JSON value that is a case or a list of them, or a case or record in each line. Records of decisions
/// that the clock or the load ended are passed over: no policy can be held to those.
///
/// # Errors
/// [`RecordFileError`] says what is wrong and in which line.
pub fn read_cases(text: &str) -> Result<Vec<Case>, RecordFileError> {
    let mut values = match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(values)) => values.into_iter().map(|value| (1, value)).collect(),
        Ok(value) => vec![(1, value)],
        // Is it one value that is broken, or a value in each line?
        Err(error) if serde_json::from_str::<Value>(text.lines().next().unwrap_or_default()).is_err() => {
            return Err(RecordFileError::Json { line: error.line(), error });
        }
        Err(_) => {
            let mut lines = Lines { input: text.as_bytes(), line: 0 };
            let mut values = Vec::new();
            while let Some(value) = lines.next() {
                values.push((lines.line, value?));
            }
            values
        }
    };
    let mut cases = Vec::new();
    for (line, value) in values.drain(..) {
        let shape = |error| RecordFileError::Shape { line, error };
        if value.get("format").is_some() {
            let record = Record::from_json(value).map_err(shape)?;
            cases.extend(Case::of_record(record));
        } else {
            cases.push(Case::from_json(value).map_err(shape)?);
        }
    }
    Ok(cases)
}

/// JSON values, one in each line.
struct Lines<R> {
    input: R,
    line: usize,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Option<Result<Value, RecordFileError>> {
        loop {
            self.line = self.line.saturating_add(1);
            let line = self.line;
            let mut bytes = Vec::new();
            match (&mut self.input).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes) {
                Err(error) => return Some(Err(RecordFileError::Io { line, error })),
                Ok(0) => return None,
                Ok(length) if length as u64 == MAX_LINE_BYTES && !bytes.ends_with(b"\n") => {
                    return Some(Err(RecordFileError::TooLong { line }));
                }
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let value = serde_json::from_slice(&bytes);
                    return Some(value.map_err(|error| RecordFileError::Json { line, error }));
                }
            }
        }
    }
}
