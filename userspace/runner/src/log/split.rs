/// Longest record, in bytes; Docker's `defaultBufSize`.
const LONGEST: usize = 16 << 10;

/// Cuts what comes through a pipe into lines, and lines that are too long into parts.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The begin of a line whose end has not come yet; shorter than the longest record.
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes what was read; hands out each record that is whole by it, in order.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut record: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LONGEST.saturating_sub(self.rest.len());
            let newline = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let taken = newline.map_or(room.min(bytes.len()), |at| at.saturating_add(1));
            let (now, later) = bytes.split_at(taken);
            bytes = later;
            if self.rest.is_empty() && newline.is_some() {
                record(now);
                continue;
            }
            self.rest.extend_from_slice(now);
            if newline.is_some() {
                record(&self.rest);
                self.rest.clear();
            } else if self.rest.len() >= LONGEST {
                let whole = whole_characters(&self.rest);
                record(self.rest.get(..whole).unwrap_or_default());
                self.rest.drain(..whole);
            }
        }
    }

    /// Hands out what came last, where no line's end followed; it gets one, as in Docker.
    pub(crate) fn finish(&mut self, mut record: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            self.rest.push(b'\n');
            record(&self.rest);
            self.rest.clear();
        }
    }
}

/// How many of these bytes to take so that no character of UTF-8 is cut in two.
fn whole_characters(bytes: &[u8]) -> usize {
    let begins = |byte: &u8| *byte & 0b1100_0000 != 0b1000_0000;
    let last = bytes
        .iter()
        .rev()
        .take(4)
        .position(begins)
        .map_or(0, |back| back.saturating_add(1));
    let start = bytes.len().saturating_sub(last);
    let wanted = match bytes.get(start) {
        Some(0b1100_0000..=0b1101_1111) => 2,
        Some(0b1110_0000..=0b1110_1111) => 3,
        Some(0b1111_0000..=0b1111_0111) => 4,
        _ => return bytes.len(),
    };
    if last < wanted { start } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut records) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |record| records.push(record.to_vec()));
        }
        splitter.finish(|record| records.push(record.to_vec()));
        records
    }

    #[test]
    fn lines_are_records_however_they_arrive() {
        for chunks in [
            &[&b"a\nbc\n\nd"[..]][..],
            &[b"a", b"\nb", b"c\n", b"\n", b"d"],
            &[b"a\nbc", b"", b"\n\nd"],
        ] {
            assert_eq!(split(chunks), [&b"a\n"[..], b"bc\n", b"\n", b"d\n"], "{chunks:?}");
        }
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_at_16_kib_and_between_characters() {
        let ascii = vec![b'x'; LONGEST * 2 + 1];
        let lengths: Vec<usize> = split(&[&ascii]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [LONGEST, LONGEST, 2]);
        let exact = [vec![b'x'; LONGEST - 1], vec![b'\n']].concat();
        assert_eq!(split(&[&exact]), [exact]);
        let mut wide = "x".to_owned();
        wide.push_str(&"\u{20ac}".repeat(LONGEST));
        for record in split(&[wide.as_bytes()]) {
            assert!(record.len() <= LONGEST && String::from_utf8(record).is_ok());
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_changed_or_too_long(
            chunks in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..40),
                    prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(0xe2), Just(0x82)], 0..40_000),
                ],
                0..6,
            )
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let records = split(&chunks);
            let mut all = chunks.concat();
            if all.last().is_some_and(|last| *last != b'\n') {
                all.push(b'\n');
            }
            prop_assert_eq!(records.concat(), all);
            for record in records {
                prop_assert!(record.len() <= LONGEST + 1);
                prop_assert!(!record.is_empty());
                prop_assert!(record.len() > LONGEST - 4 || record.ends_with(b"\n"));
            }
        }
    }
}
