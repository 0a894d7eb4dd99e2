use core::marker::PhantomData;
use essaim_abi::{Addr, DropReason, MacAddr};

/// Bytes between two addresses: a packet as XDP and tc see it, or a slice.
///
/// # Safety
/// Every byte from `data` up to `data_end` can be read for as long as the borrow of `self` lasts.
pub unsafe trait Frame {
    /// The address of the first byte.
    fn data(&self) -> usize;
    /// The address behind the last byte.
    fn data_end(&self) -> usize;
}

/// A frame whose bytes may be written.
///
/// # Safety
/// As [`Frame`], for writing.
pub unsafe trait FrameMut: Frame {}

/// A frame in ordinary memory.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a>(pub &'a [u8]);

// SAFETY: the slice is borrowed for as long as the value lives.
unsafe impl Frame for Slice<'_> {
    fn data(&self) -> usize {
        self.0.as_ptr() as usize
    }

    fn data_end(&self) -> usize {
        self.0.as_ptr() as usize + self.0.len()
    }
}

/// A frame in ordinary memory that may be written.
#[derive(Debug)]
pub struct SliceMut<'a>(pub &'a mut [u8]);

// SAFETY: the slice is borrowed for as long as the value lives.
unsafe impl Frame for SliceMut<'_> {
    fn data(&self) -> usize {
        self.0.as_ptr() as usize
    }

    fn data_end(&self) -> usize {
        self.0.as_ptr() as usize + self.0.len()
    }
}

// SAFETY: the slice is borrowed mutably for as long as the value lives.
unsafe impl FrameMut for SliceMut<'_> {}

/// A value that may be read from any bytes: an unsigned integer, or an array of them.
///
/// # Safety
/// Every bit pattern is valid.
pub unsafe trait Wire: Copy {}
// SAFETY: integers and arrays of them accept every bit pattern.
unsafe impl Wire for u8 {}
// SAFETY: as above.
unsafe impl Wire for u16 {}
// SAFETY: as above.
unsafe impl Wire for u32 {}
// SAFETY: as above.
unsafe impl Wire for u64 {}
// SAFETY: as above.
unsafe impl<T: Wire, const N: usize> Wire for [T; N] {}

/// Reads one word at `at`.
///
/// # Safety
/// The bytes can be read.
#[inline(always)]
unsafe fn read<T: Wire>(at: *const u8) -> T {
    // The BPF machine reads packets and maps at any alignment, but the compiler would split an unaligned access into
    // bytes; told to allow such accesses, it would make them on the stack as well, where the verifier refuses them.
    // SAFETY: by the contract; on BPF the access is one load, whose alignment the kernel does not ask for.
    unsafe {
        if cfg!(target_arch = "bpf") {
            at.cast::<T>().read()
        } else {
            at.cast::<T>().read_unaligned()
        }
    }
}

/// Writes one word at `at`; as [`read`].
///
/// # Safety
/// The bytes can be written.
#[inline(always)]
unsafe fn write<T: Wire>(at: *mut u8, value: T) {
    // SAFETY: by the contract; as in `read`.
    unsafe {
        if cfg!(target_arch = "bpf") {
            at.cast::<T>().write(value);
        } else {
            at.cast::<T>().write_unaligned(value);
        }
    }
}

/// `N` bytes of a frame whose bounds were checked; its words are read where they lie.
#[derive(Clone, Copy)]
pub struct View<'a, const N: usize> {
    at: *const u8,
    frame: PhantomData<&'a ()>,
}

impl<const N: usize> View<'_, N> {
    /// The word at an offset, as it lies; the offset is a constant that the call site sums up from header lengths.
    #[inline(always)]
    pub fn get<T: Wire>(&self, offset: usize) -> T {
        debug_assert!(offset + size_of::<T>() <= N);
        // SAFETY: the view's bounds were checked, and callers stay within `N` (asserted in tests).
        unsafe { read(self.at.add(offset)) }
    }

    /// The IPv6 address at an offset.
    #[inline(always)]
    pub fn address6(&self, offset: usize) -> Addr {
        Addr {
            words: [
                self.get(offset),
                self.get(offset + 4),
                self.get(offset + 8),
                self.get(offset + 12),
            ],
        }
    }

    /// The Ethernet address at an offset.
    #[inline(always)]
    pub fn mac(&self, offset: usize) -> MacAddr {
        mac_of([self.get(offset), self.get(offset + 2), self.get(offset + 4)])
    }

    /// Whether the Ethernet address at an offset is this one: word by word, which the compiler would do by the byte.
    #[inline(always)]
    pub fn has_mac(&self, offset: usize, mac: &MacAddr) -> bool {
        let words = words_of(mac);
        self.get::<u16>(offset) == words[0]
            && self.get::<u16>(offset + 2) == words[1]
            && self.get::<u16>(offset + 4) == words[2]
    }
}

/// An Ethernet address from its three words.
#[inline(always)]
fn mac_of(words: [u16; 3]) -> MacAddr {
    let [a, b] = words[0].to_ne_bytes();
    let [c, d] = words[1].to_ne_bytes();
    let [e, f] = words[2].to_ne_bytes();
    MacAddr([a, b, c, d, e, f])
}

/// The three words of an Ethernet address.
#[inline(always)]
fn words_of(mac: &MacAddr) -> [u16; 3] {
    let at = mac.0.as_ptr();
    // SAFETY: the address has six bytes; as in `read`.
    let word = |index: usize| unsafe { read::<u16>(at.add(index * 2)) };
    [word(0), word(1), word(2)]
}

/// No header is looked for beyond this offset: the verifier wants a bound on what it cannot know.
const MAX_OFFSET: usize = 0x3fff;

/// An offset that was read from memory, as one number: the compiler would check the bound of one copy of it and use
/// another, of which the verifier knows nothing.
#[inline(always)]
pub(crate) fn settled(at: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut at = at;
        // SAFETY: moves a register to itself.
        unsafe { core::arch::asm!("{0} = {0}", inlateout(reg) at, options(nomem, nostack, preserves_flags)) };
        at
    }
    #[cfg(not(target_arch = "bpf"))]
    at
}

/// An offset that is at most [`MAX_OFFSET`], in the register in which it is used. Verifiers before Linux 6.8 forget the
/// check of a number that is read back from the stack: a mask they keep, and the compiler may not know that it changes
/// nothing.
#[inline(always)]
fn bounded(at: usize) -> Result<usize, DropReason> {
    const { assert!((MAX_OFFSET + 1).is_power_of_two()) };
    if at > MAX_OFFSET {
        return Err(DropReason::Truncated);
    }
    #[cfg(target_arch = "bpf")]
    if !core::intrinsics::is_val_statically_known(at) {
        let mut at = at;
        // SAFETY: an arithmetic instruction on a register.
        unsafe {
            core::arch::asm!("{0} &= {1}", inlateout(reg) at, const MAX_OFFSET, options(pure, nomem, nostack, preserves_flags));
        }
        return Ok(at);
    }
    Ok(at)
}

/// Checks that the frame holds `N` bytes at `at`.
///
/// # Errors
/// [`DropReason::Truncated`] where the frame ends before.
#[inline(always)]
pub fn view<'a, const N: usize>(frame: &(impl Frame + 'a), at: usize) -> Result<View<'a, N>, DropReason> {
    let first = frame.data() + bounded(at)?;
    if first + N > frame.data_end() {
        return Err(DropReason::Truncated);
    }
    Ok(View {
        at: first as *const u8,
        frame: PhantomData,
    })
}

/// Reads the word that starts `at` bytes into the frame, as it lies there.
///
/// # Errors
/// [`DropReason::Truncated`] where the frame ends before the word does.
#[inline(always)]
pub fn load<T: Wire>(frame: &impl Frame, at: usize) -> Result<T, DropReason> {
    let first = frame.data() + bounded(at)?;
    if first + size_of::<T>() > frame.data_end() {
        return Err(DropReason::Truncated);
    }
    // SAFETY: the bytes lie before `data_end` (checked above).
    Ok(unsafe { read(first as *const u8) })
}

/// `N` bytes of a frame whose bounds were checked, to be written.
pub struct ViewMut<'a, const N: usize> {
    at: *mut u8,
    frame: PhantomData<&'a mut ()>,
}

impl<'a, const N: usize> ViewMut<'a, N> {
    /// The first `M` bytes of the view; `M` is at most `N`.
    #[inline(always)]
    pub fn narrow<const M: usize>(self) -> ViewMut<'a, M> {
        const { assert!(M <= N) };
        ViewMut {
            at: self.at,
            frame: PhantomData,
        }
    }

    /// Writes the word at an offset, as it lies; the offset is a constant, as in [`View::get`].
    #[inline(always)]
    pub fn put<T: Wire>(&mut self, offset: usize, value: T) {
        debug_assert!(offset + size_of::<T>() <= N);
        // SAFETY: the view's bounds were checked, and callers stay within `N` (asserted in tests).
        unsafe { write(self.at.add(offset), value) }
    }

    /// Reads the word at an offset.
    #[inline(always)]
    pub fn get<T: Wire>(&self, offset: usize) -> T {
        debug_assert!(offset + size_of::<T>() <= N);
        // SAFETY: as in `put`.
        unsafe { read(self.at.add(offset)) }
    }

    /// Writes an address in its own family's form: four bytes or sixteen.
    #[inline(always)]
    pub fn put_address(&mut self, offset: usize, address: &Addr, v6: bool) {
        if v6 {
            self.put(offset, address.words[0]);
            self.put(offset + 4, address.words[1]);
            self.put(offset + 8, address.words[2]);
            self.put(offset + 12, address.words[3]);
        } else {
            self.put(offset, address.v4_word());
        }
    }

    /// Writes an Ethernet address.
    #[inline(always)]
    pub fn put_mac(&mut self, offset: usize, mac: &MacAddr) {
        let words = words_of(mac);
        self.put(offset, words[0]);
        self.put(offset + 2, words[1]);
        self.put(offset + 4, words[2]);
    }

    /// Copies `LEN` bytes (even) of a prepared header in words of eight and two bytes.
    #[inline(always)]
    pub fn copy<const LEN: usize, const FROM: usize>(&mut self, header: &[u8; FROM]) {
        debug_assert!(LEN <= FROM && LEN <= N);
        let from = header.as_ptr();
        let mut at = 0;
        while at + 8 <= LEN {
            // SAFETY: within the array, whose length is checked above.
            self.put(at, unsafe { read::<u64>(from.add(at)) });
            at += 8;
        }
        while at + 2 <= LEN {
            // SAFETY: as above.
            self.put(at, unsafe { read::<u16>(from.add(at)) });
            at += 2;
        }
    }
}

/// Checks that `N` bytes at `at` can be written.
///
/// # Errors
/// [`DropReason::Truncated`] where the frame ends before.
#[inline(always)]
pub fn view_mut<'a, const N: usize>(
    frame: &mut (impl FrameMut + 'a),
    at: usize,
) -> Result<ViewMut<'a, N>, DropReason> {
    let first = frame.data() + bounded(at)?;
    if first + N > frame.data_end() {
        return Err(DropReason::Truncated);
    }
    Ok(ViewMut {
        at: first as *mut u8,
        frame: PhantomData,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_or_written_past_the_end() {
        let mut bytes = [1_u8, 2, 3, 4, 5];
        assert_eq!(
            load::<u32>(&Slice(&bytes), 1),
            Ok(u32::from_ne_bytes([2, 3, 4, 5]))
        );
        assert_eq!(load::<u32>(&Slice(&bytes), 2), Err(DropReason::Truncated));
        assert!(view::<6>(&Slice(&bytes), 0).is_err());
        assert!(view_mut::<5>(&mut SliceMut(&mut bytes), 1).is_err());
        view_mut::<4>(&mut SliceMut(&mut bytes), 1)
            .unwrap()
            .put(2, 0xffff_u16);
        assert_eq!(bytes, [1, 2, 3, 0xff, 0xff]);
    }

    #[test]
    fn a_header_is_copied_whole() {
        let from: [u8; 72] = core::array::from_fn(|i| i as u8);
        let mut to = [0; 50];
        view_mut::<50>(&mut SliceMut(&mut to), 0)
            .unwrap()
            .copy::<50, 72>(&from);
        assert_eq!(to, from[..50]);
    }
}
