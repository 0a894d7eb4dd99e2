use super::Allocators;
use crate::DatapathError;
use essaim_abi::TableRef;
use essaim_abi::maps::TABLES;
use std::time::Instant;

/// The lists that are to be written, and what the maps hold of those that are there.
pub(crate) struct Lists<'a> {
    /// Reads a slot of the tables as they are.
    pub(crate) read: &'a dyn Fn(u32) -> u32,
    /// Offset and content of the lists to be written.
    pub(crate) writes: Vec<(u32, Vec<u32>)>,
    /// When the regions of replaced lists start to rest.
    pub(crate) now: Instant,
}

impl Lists<'_> {
    /// Where a list of these slots stands: where it stood, if it says the same there, else in a new place.
    ///
    /// `slots` holds `len` slots, and their earlier owners behind them where it is longer.
    ///
    /// # Errors
    /// Where no region is large enough.
    pub(super) fn place(
        &mut self,
        old: TableRef,
        len: usize,
        slots: Vec<u32>,
        allocators: &mut Allocators,
    ) -> Result<TableRef, DatapathError> {
        let needed = slots.len();
        let capacity = allocators.capacity.tables;
        let taken = u64::from(capacity).saturating_sub(allocators.regions.available());
        let full = || DatapathError::Capacity {
            map: TABLES,
            needed: needed as u64 + taken,
            capacity: u64::from(capacity),
        };
        let (Ok(len), Ok(footprint)) = (u32::try_from(len), u32::try_from(needed)) else {
            return Err(full());
        };
        let earlier = footprint > len;
        if len == 0 {
            allocators.regions.free(old.offset(), old.footprint(), self.now);
            return Ok(TableRef::EMPTY);
        }
        let same_shape = old.len() == len && old.has_earlier() == earlier;
        if same_shape
            && (old.offset()..)
                .zip(&slots)
                .all(|(index, slot)| (self.read)(index) == *slot)
        {
            return Ok(old);
        }
        let Some(offset) = allocators.regions.allocate(footprint, self.now) else {
            return Err(full());
        };
        allocators.regions.free(old.offset(), old.footprint(), self.now);
        self.writes.push((offset, slots));
        Ok(TableRef::new(offset, len, earlier))
    }
}
