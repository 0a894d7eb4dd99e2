//! Names on the wire: labels, each after its length, the root's zero last.

/// Longest name on the wire, in bytes, the root included.
pub(crate) const MAX_NAME: usize = 255;
/// Longest label, in bytes.
pub(crate) const MAX_LABEL: usize = 63;

/// The dotted text on the wire; nothing where it has an empty label or is too long for DNS.
pub(crate) fn encode(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        wire.push(length);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= MAX_NAME).then_some(wire)
}

/// As [`encode`], in lower case. Lengths are below `A`, so the whole can be folded at once.
pub(crate) fn encode_lower(text: &str) -> Option<Vec<u8>> {
    let mut wire = encode(text)?;
    wire.make_ascii_lowercase();
    Some(wire)
}
