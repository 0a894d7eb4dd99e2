//! A stream's lines, however it is cut into pieces.

use bytes::Bytes;

/// Longest line, in bytes: far more than an event has.
const MAX_LINE: usize = 1 << 20;

/// What has come of a line that is not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes the next piece; the lines that are whole now, as one piece with their ends.
    ///
    /// # Errors
    /// A line is too long; how long it is until now.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Option<Bytes>, usize> {
        let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else {
            self.0.extend_from_slice(piece);
            return if self.0.len() > MAX_LINE {
                Err(self.0.len())
            } else {
                Ok(None)
            };
        };
        let (whole, rest) = piece.split_at(end + 1);
        let mut lines = std::mem::replace(&mut self.0, rest.to_vec());
        lines.extend_from_slice(whole);
        Ok(Some(lines.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lines_come_whole_however_they_are_cut(text in "[a-c\n]{0,60}", at in proptest::collection::vec(0..60_usize, 0..6)) {
            let mut cuts: Vec<usize> = at.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut told = Vec::new();
            for pair in cuts.windows(2) {
                if let Some(whole) = lines.push(&text.as_bytes()[pair[0]..pair[1]]).unwrap() {
                    proptest::prop_assert!(whole.ends_with(b"\n"));
                    told.extend_from_slice(&whole);
                }
            }
            let end = text.rfind('\n').map_or(0, |end| end + 1);
            proptest::prop_assert_eq!(told, &text.as_bytes()[..end]);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; MAX_LINE]), Ok(None));
        assert_eq!(lines.push(b"x"), Err(MAX_LINE + 1));
    }
}
