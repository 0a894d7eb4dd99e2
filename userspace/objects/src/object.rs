//! How every object is read and written: members by the API's names whatever their case, `null` as absent, and
//! members that this version does not know kept as they came.

use serde::de::{DeserializeSeed, Deserializer, Visitor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Members that this version does not know, by name.
pub type Extra = Map<String, Value>;

/// The first of such members that asks for something: one that is neither `null`, `false` nor empty.
pub fn first_asked(extra: &Extra) -> Option<&str> {
    let asks = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    };
    let (name, _) = extra.iter().find(|(_, value)| asks(value))?;
    Some(name)
}

/// What can be the type of an object's member.
pub(crate) trait Member: Sized {
    /// The value where the member is absent; `None` where it must be there.
    fn absent() -> Option<Self>;

    /// Whether the member is left out in writing.
    fn is_absent(&self) -> bool;
}

impl<T> Member for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Member for Vec<T> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K: Ord, V> Member for BTreeMap<K, V> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Default> Member for Arc<T> {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        false
    }
}

/// Types whose default stands for an absent member, and that are always written.
macro_rules! always_written {
    ($($type:ty),* $(,)?) => {
        $(impl $crate::object::Member for $type {
            fn absent() -> Option<Self> {
                Some(Self::default())
            }

            fn is_absent(&self) -> bool {
                false
            }
        })*
    };
}
pub(crate) use always_written;

always_written!(bool, u32, u64, String);

/// A member's name, matched against those of a type: exactly, else without regard to case.
pub(crate) struct Names(pub(crate) &'static [&'static str]);

/// A member's name as found.
pub(crate) enum Found {
    /// One of the type's own, in the type's spelling.
    Own(&'static str),
    /// Another.
    Other(String),
}

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Names {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, found: &str) -> Result<Found, E> {
        let exact = self.0.iter().find(|name| **name == found);
        let own = exact.or_else(|| self.0.iter().find(|name| name.eq_ignore_ascii_case(found)));
        Ok(own.map_or_else(|| Found::Other(found.to_owned()), |name| Found::Own(name)))
    }
}

/// Declares an object of the API: its members' names, fields and types. It also gets the field `extra` for the members
/// that it does not know.
macro_rules! object {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$field_doc:meta])* $key:literal $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// Members that this version does not know, written as they came.
            pub extra: $crate::object::Extra,
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $(if !$crate::object::Member::is_absent(&self.$field) {
                    map.serialize_entry($key, &self.$field)?;
                })*
                for (name, value) in &self.extra {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;

                impl<'de> serde::de::Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a ", stringify!($name), " object"))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        const NAMES: &[&str] = &[$($key),*];
                        $(let mut $field: Option<$type> = None;)*
                        let mut extra = $crate::object::Extra::new();
                        while let Some(found) = map.next_key_seed($crate::object::Names(NAMES))? {
                            match found {
                                $($crate::object::Found::Own($key) => {
                                    $field = map.next_value::<Option<$type>>()?;
                                })*
                                $crate::object::Found::Own(other) => {
                                    return Err(serde::de::Error::unknown_field(other, NAMES));
                                }
                                $crate::object::Found::Other(name) => {
                                    extra.insert(name, map.next_value()?);
                                }
                            }
                        }
                        Ok($name {
                            $($field: match $field.or_else(<$type as $crate::object::Member>::absent) {
                                Some(value) => value,
                                None => return Err(serde::de::Error::missing_field($key)),
                            },)*
                            extra,
                        })
                    }
                }

                deserializer.deserialize_map(Members)
            }
        }

        impl $crate::object::Member for $name {
            fn absent() -> Option<Self> {
                Some(Self {
                    $($field: <$type as $crate::object::Member>::absent()?,)*
                    extra: $crate::object::Extra::new(),
                })
            }

            fn is_absent(&self) -> bool {
                false
            }
        }
    };
}
pub(crate) use object;

/// Declares an object of which every member may be absent: as [`object!`], and it has a default.
macro_rules! spec {
    ($(#[$doc:meta])* $name:ident { $($members:tt)* }) => {
        $crate::object::object! { $(#[$doc])* #[derive(Default)] $name { $($members)* } }
    };
}
pub(crate) use spec;

/// Declares a word of the API: one of a few strings, read without regard to case.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $word:literal $variant:ident,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As the API writes it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::WordError;

            fn from_str(text: &str) -> Result<Self, $crate::WordError> {
                let found = Self::ALL.iter().find(|word| word.as_str().eq_ignore_ascii_case(text));
                found.copied().ok_or_else(|| $crate::WordError {
                    what: stringify!($name),
                    found: text.to_owned(),
                    expected: const { &[$($word),*] },
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::object::text(deserializer)
            }
        }
    };
}
pub(crate) use words;

/// A word that the API does not have there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{found}\", expected one of {}", words_of(.expected).join(", "))]
pub struct WordError {
    /// The kind of word.
    pub what: &'static str,
    /// The word.
    pub found: String,
    /// Those that there are.
    pub expected: &'static [&'static str],
}

/// The words that say something: the empty one stands for what the default says.
fn words_of(expected: &[&'static str]) -> Vec<&'static str> {
    let words = expected.iter().filter(|word| !word.is_empty());
    words.copied().collect()
}

/// Reads what is parsed from a string.
pub(crate) fn text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: fmt::Display,
{
    struct Text<T>(std::marker::PhantomData<T>);

    impl<T> Visitor<'_> for Text<T>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, found: &str) -> Result<T, E> {
            found.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(std::marker::PhantomData))
}
