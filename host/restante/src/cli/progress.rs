//! Progress bars for a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error that counts bytes; nothing where that is no terminal.
#[must_use]
pub fn bar(label: &str, total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  {msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}");
    let style = style.map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "));
    ProgressBar::new(total_bytes).with_style(style).with_message(label.to_owned())
}
