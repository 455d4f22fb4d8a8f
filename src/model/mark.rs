//! A point in the history of a folder, at either side.

use serde::{Deserialize, Deserializer, Serialize};

/// A point in a folder's history from which a driver can go on. Everybody may keep it and see whether it is the same as another
/// one; only the driver that made it reads it. An older mark in the place of a newer one only means that more is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Mark(Box<str>);

impl Mark {
    /// The point before everything, which any driver can go on from: all that is in the folder came behind it.
    pub fn beginning() -> Self {
        Self::default()
    }

    /// Whether it is that point, so that it says nothing.
    pub fn is_beginning(&self) -> bool {
        self.0.is_empty()
    }

    /// The text that it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Mark {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Mark {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Versions before this one wrote a number.
impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u32),
            Text(String),
        }
        Ok(match Written::deserialize(from)? {
            Written::Number(number) => Self::from(number.to_string()),
            Written::Text(text) => Self::from(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written_and_numbers_of_before_as_well() {
        let read: Vec<Mark> = serde_json::from_str(r#"[9, "9", "9 77", ""]"#).unwrap();
        assert_eq!(read, [Mark::from("9"), Mark::from("9"), Mark::from("9 77"), Mark::beginning()]);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["9","9","9 77",""]"#);
        assert!(read[3].is_beginning() && !read[0].is_beginning());
    }
}
