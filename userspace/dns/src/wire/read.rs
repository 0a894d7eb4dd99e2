//! Reads a message from front to back.

/// A place in a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    pub(crate) const fn new(message: &'m [u8], at: usize) -> Self {
        Self { message, at }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.at >= self.message.len()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.message.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Steps over a name, and holds every pointer in it to point to a name before the one it stands in, so that
    /// whoever follows them comes to an end.
    pub(crate) fn skip_name(&mut self) -> Option<()> {
        let mut lowest = self.at;
        let mut here = *self;
        let mut length = 0_usize;
        let mut jumped = false;
        loop {
            let byte = here.u8()?;
            match byte >> 6 {
                0 if byte == 0 => break,
                0 => {
                    here.take(usize::from(byte))?;
                    length = length.checked_add(usize::from(byte))?.checked_add(1)?;
                    if length >= super::MAX_NAME {
                        return None;
                    }
                }
                3 => {
                    let low = here.u8()?;
                    if !jumped {
                        self.at = here.at;
                        jumped = true;
                    }
                    let target = usize::from(u16::from_be_bytes([byte & 0x3f, low]));
                    if target >= lowest || target < super::HEADER_LEN {
                        return None;
                    }
                    lowest = target;
                    here.at = target;
                }
                // 0x40 and 0x80 were never given out for good (RFC 6891, 5).
                _ => return None,
            }
        }
        if !jumped {
            self.at = here.at;
        }
        Some(())
    }
}
