use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// A message of JSON that is read is written so that it reads back as it was.
pub(crate) fn reads_back<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<M>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&message).expect("what was read cannot be written");
    let again: M = serde_json::from_slice(&written).expect("what was written cannot be read");
    assert_eq!(again, message, "reads back as another message");
    // The control socket tells messages apart by their lines.
    assert!(!written.contains(&b'\n'), "a message is more than one line");
}
