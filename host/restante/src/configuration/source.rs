//! The text of a configuration, so that whatever is found wrong later can still be said with its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

/// Where a configuration came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    path: PathBuf,
    text: Arc<str>,
    /// The text is one tenant's table, and not a whole configuration.
    is_of_tenant: bool,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.into(), is_of_tenant: false }
    }

    /// The text of one tenant's table alone; keys begin with `tenants` and its name all the same.
    pub(crate) fn of_tenant(path: &Path, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.into(), is_of_tenant: true }
    }

    /// The file; none where there is none.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        (!self.path.as_os_str().is_empty()).then_some(self.path.as_path())
    }

    /// `FILE: line L, column C` of the value that these keys lead to, or of as much of the way as there is. The file alone
    /// when nothing of it is there.
    #[must_use]
    pub fn place(&self, keys: &[&str]) -> String {
        let path = self.path.display();
        match self.offset(keys) {
            Some(offset) => {
                let before = self.text.get(..offset).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                format!("{path}: line {line}, column {column}")
            }
            None => path.to_string(),
        }
    }

    fn offset(&self, keys: &[&str]) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        let keys = if self.is_of_tenant { keys.get(2..)? } else { keys };
        let (first, rest) = keys.split_first()?;
        let mut value = table.get_ref().get(*first)?;
        for key in rest {
            let next = match value.get_ref() {
                DeValue::Array(array) => key.parse().ok().and_then(|index: usize| array.get(index)),
                DeValue::Table(table) => table.get(*key),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => break,
            }
        }
        Some(value.span().start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_the_value_or_of_what_is_nearest() {
        let source = Source::new(Path::new("x.toml"), "[a]\nb = [1,\n  \"two\"]\n[a.c]\nd = 5\n");
        for (keys, place) in [
            (&["a", "b", "1"][..], "x.toml: line 3, column 3"),
            (&["a", "c", "d"], "x.toml: line 5, column 5"),
            (&["a", "c", "e"], "x.toml: line 4, column 1"),
            (&["z"], "x.toml"),
        ] {
            assert_eq!(source.place(keys), place, "{keys:?}");
        }
    }

    #[test]
    fn a_tenants_own_text_has_places_too() {
        let source = Source::of_tenant(Path::new("t.toml"), "domains = []\n[settings]\nfew = 3\n");
        assert_eq!(source.place(&["tenants", "t", "settings", "few"]), "t.toml: line 3, column 7");
        assert_eq!(source.place(&["tenants", "t"]), "t.toml");
    }
}
