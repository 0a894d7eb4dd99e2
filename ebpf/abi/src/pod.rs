/// A plain value that is its own bytes.
///
/// # Safety
/// The type is `repr(C)`, has no padding, no pointer and no invalid bit pattern.
pub unsafe trait Pod: Copy + 'static {
    /// The bytes of the value as a map holds them.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the trait promises that every byte of the value is initialised, and the borrow keeps it alive.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast::<u8>(), size_of::<Self>()) }
    }

    /// Reads a value from the bytes of a map entry; `None` where the length is another.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: the length is that of the type, every bit pattern is valid, and the read needs no alignment.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The value whose bytes are all zero.
    fn zeroed() -> Self {
        // SAFETY: every bit pattern is valid for the type.
        unsafe { core::mem::zeroed() }
    }
}

// SAFETY: integers have no padding and no invalid bit pattern.
unsafe impl Pod for u32 {}
// SAFETY: as above.
unsafe impl Pod for u64 {}

/// Declares a type plain and pins its size and alignment.
macro_rules! pod {
    ($type:ty, size = $size:expr, align = $align:expr) => {
        const _: () = assert!(size_of::<$type>() == $size && align_of::<$type>() == $align);
        // SAFETY: `repr(C)`, fields of integers and arrays of them that fill the size asserted above.
        unsafe impl $crate::Pod for $type {}
    };
}
pub(crate) use pod;

/// Declares a set of bits held in an unsigned integer.
macro_rules! bits {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$bit_doc:meta])* $bit:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $name(pub $repr);

        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);
            $($(#[$bit_doc])* pub const $bit: Self = Self($value);)*

            /// Whether every bit of `other` is set.
            #[inline(always)]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// These bits and those of `other`.
            #[inline(always)]
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    };
}
pub(crate) use bits;
