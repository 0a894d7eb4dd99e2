//! Names on the wire: labels, each after its length, the root's zero last.

use super::Reader;

/// Longest name on the wire, in bytes, the root included.
pub(crate) const MAX_NAME: usize = 255;
/// Longest label, in bytes.
pub(crate) const MAX_LABEL: usize = 63;

/// A name in lower case, on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; MAX_NAME],
    length: u8,
}

impl Name {
    /// Reads an uncompressed name.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut here = *reader;
        let start = here.at();
        loop {
            match here.u8()? {
                0 => break,
                // Above: a pointer, which has nothing to point to in a question, or a reserved form.
                length if usize::from(length) <= MAX_LABEL => drop(here.take(usize::from(length))?),
                _ => return None,
            }
        }
        let wire = reader.take(here.at().checked_sub(start)?)?;
        Self::of(wire)
    }

    /// The name with these bytes, which must be one, such as the rest of another.
    pub(crate) fn of(wire: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_NAME];
        let start = bytes.get_mut(..wire.len())?;
        start.copy_from_slice(wire);
        // Lengths are below `A`, so the whole can be folded at once.
        start.make_ascii_lowercase();
        Some(Self {
            bytes,
            length: u8::try_from(wire.len()).ok()?,
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The name before this suffix (a name itself, with its root), where it has it and something before it.
    pub(crate) fn without_suffix(&self, suffix: &[u8]) -> Option<Self> {
        let wire = self.as_bytes();
        let cut = wire.len().checked_sub(suffix.len())?;
        if cut == 0 || suffix.is_empty() || wire.get(cut..) != Some(suffix) {
            return None;
        }
        // What looks like the suffix may begin within a label.
        let mut start = 0_usize;
        while start < cut {
            start = start
                .checked_add(usize::from(*wire.get(start)?))?
                .checked_add(1)?;
        }
        if start != cut {
            return None;
        }
        let mut name = *self;
        *name.bytes.get_mut(cut)? = 0;
        name.length = u8::try_from(cut.checked_add(1)?).ok()?;
        Some(name)
    }

    /// The first label and the name after it; nothing for the root.
    pub(crate) fn split_first(wire: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = wire.split_first()?;
        if *length == 0 {
            return None;
        }
        rest.split_at_checked(usize::from(*length))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.as_bytes();
        while let Some((label, next)) = Self::split_first(rest) {
            write!(f, "{}.", label.escape_ascii())?;
            rest = next;
        }
        Ok(())
    }
}

/// The dotted text on the wire; nothing where it has an empty label or is too long for DNS.
pub(crate) fn encode(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len().saturating_add(2));
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

/// As [`encode`], in lower case.
pub(crate) fn encode_lower(text: &str) -> Option<Vec<u8>> {
    let mut wire = encode(text)?;
    wire.make_ascii_lowercase();
    Some(wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        let wire = encode(text).unwrap();
        Name::read(&mut Reader::new(&wire, 0)).unwrap()
    }

    #[test]
    fn text_that_dns_cannot_say_has_no_wire_form() {
        assert_eq!(encode("Web.app").unwrap(), b"\x03Web\x03app\0");
        assert_eq!(encode_lower("Web.app").unwrap(), b"\x03web\x03app\0");
        for bad in [
            "",
            ".",
            "a.",
            "a..b",
            &"x".repeat(64),
            &vec!["x".repeat(63); 4].join("."),
        ] {
            assert_eq!(encode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_read_once_and_in_lower_case() {
        let message = b"\x03WeB\x03aPP\0rest";
        let mut reader = Reader::new(message, 0);
        assert_eq!(Name::read(&mut reader).unwrap().as_bytes(), b"\x03web\x03app\0");
        assert_eq!(reader.at(), 9);
        for bad in [
            &b"\x03we"[..],
            b"\x03web",
            b"\xc0\x0c",
            b"\x40a\0",
            b"\x80a\0",
            b"",
        ] {
            assert!(Name::read(&mut Reader::new(bad, 0)).is_none(), "{bad:?}");
        }
        let label = |length: u8| [vec![length], vec![b'x'; length.into()]].concat();
        let name = |last: u8| [label(63), label(63), label(63), label(last), vec![0]].concat();
        assert_eq!(name(61).len(), MAX_NAME);
        assert!(Name::read(&mut Reader::new(&name(61), 0)).is_some());
        assert!(Name::read(&mut Reader::new(&name(62), 0)).is_none());
    }

    #[test]
    fn a_suffix_begins_where_a_label_does() {
        let app = encode("app").unwrap();
        assert_eq!(
            name("web.app").without_suffix(&app).unwrap().as_bytes(),
            b"\x03web\0"
        );
        assert_eq!(
            name("1.web.app").without_suffix(&app).unwrap().as_bytes(),
            b"\x011\x03web\0"
        );
        assert!(name("app").without_suffix(&app).is_none());
        assert!(name("webapp").without_suffix(&app).is_none());
        assert!(name("web.app").without_suffix(&[]).is_none());
        // One label that ends as the suffix looks on the wire.
        let odd = Name::read(&mut Reader::new(b"\x05x\x03app\0", 0)).unwrap();
        assert!(odd.without_suffix(&app).is_none());
    }
}
