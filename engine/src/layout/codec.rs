//! Writing and reading little-endian fields of variable structures, with every bound checked.
//!
//! Fixed headers are zerocopy structs; this is for entries, whose fields have lengths of their own.

use super::{DecodeError, Extent, LogPosition};

/// Appends fields to a vector.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A count or a length: 4 bytes. Panics past `max`, the bound that the reader will apply.
    pub(super) fn count(&mut self, value: usize, max: usize) {
        assert!(value <= max, "{value} is more than the format's {max}");
        self.u32(u32::try_from(value).expect("every bound of the format fits in 32 bits"));
    }

    /// A length of 4 bytes, then the bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8], max: usize) {
        self.count(bytes.len(), max);
        self.0.extend_from_slice(bytes);
    }

    /// A length of 1 byte, then the bytes.
    pub(super) fn short_bytes(&mut self, bytes: &[u8]) {
        self.u8(u8::try_from(bytes.len()).expect("the caller's type bounds it"));
        self.0.extend_from_slice(bytes);
    }

    /// Count known from elsewhere.
    pub(super) fn u64s(&mut self, values: &[u64]) {
        for value in values {
            self.u64(*value);
        }
    }

    pub(super) fn position(&mut self, position: LogPosition) {
        self.u32(position.zone);
        self.u32(position.offset);
    }

    /// 7 bytes.
    pub(super) fn extent(&mut self, extent: Extent) {
        assert!(extent.is_well_formed(), "{extent:?} can not exist");
        self.u32(extent.zone);
        self.u16(extent.unit);
        self.u8(extent.order);
    }
}

/// Takes fields off the front of a slice.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (front, rest) = self.0.split_at_checked(bytes).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_le_bytes)
    }

    /// A count of things that take at least `each_bytes` bytes: refused before anything is reserved for them when it is
    /// past `max` or when the bytes that remain could not hold them.
    pub(super) fn count(&mut self, each_bytes: usize, max: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| DecodeError::Bounds)?;
        if count > max {
            return Err(DecodeError::Bounds);
        }
        self.has_room(count as u64, each_bytes)?;
        Ok(count)
    }

    fn has_room(&self, count: u64, each_bytes: usize) -> Result<(), DecodeError> {
        match count.checked_mul(each_bytes as u64) {
            Some(bytes) if bytes <= self.0.len() as u64 => Ok(()),
            _ => Err(DecodeError::Truncated),
        }
    }

    pub(super) fn bytes(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let bytes = self.count(1, max)?;
        self.take(bytes)
    }

    pub(super) fn short_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = usize::from(self.u8()?);
        self.take(bytes)
    }

    pub(super) fn u64s(&mut self, count: u64) -> Result<Vec<u64>, DecodeError> {
        self.has_room(count, size_of::<u64>())?;
        (0..count).map(|_| self.u64()).collect()
    }

    pub(super) fn position(&mut self) -> Result<LogPosition, DecodeError> {
        Ok(LogPosition { zone: self.u32()?, offset: self.u32()? })
    }

    pub(super) fn extent(&mut self) -> Result<Extent, DecodeError> {
        let extent = Extent { zone: self.u32()?, unit: self.u16()?, order: self.u8()? };
        if extent.is_well_formed() { Ok(extent) } else { Err(DecodeError::Bounds) }
    }
}
