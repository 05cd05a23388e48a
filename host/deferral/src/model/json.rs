//! How values are written as JSON where the derived form is not that of the contract.

/// Writes a record of switches as a list of the names of those that are on, and reads it from one.
macro_rules! flags {
    ($type:ident { $($field:ident: $name:ident),+ $(,)? }) => {
        const _: () = {
            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(rename_all = "kebab-case")]
            enum Flag { $($name),+ }

            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let all = [$((self.$field, Flag::$name)),+];
                    serializer.collect_seq(all.iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag))
                }
            }

            impl<'de> serde::Deserialize<'de> for $type {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let mut flags = $type::default();
                    for flag in <Vec<Flag> as serde::Deserialize>::deserialize(deserializer)? {
                        match flag { $(Flag::$name => flags.$field = true),+ }
                    }
                    Ok(flags)
                }
            }
        };
    };
}

pub(super) use flags;

/// Shared text. (serde's own way asks for a feature that rebuilds all of cranelift.)
pub(super) mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}
