//! How much of what is read together fits into one message.

/// A page ends before the object with which it would exceed this size, in bytes: gRPC clients accept messages of 4 MiB unless they are
/// configured otherwise. A page always takes one object, however large.
const PAGE_BYTES: usize = 3 << 20;

/// The room that is left for objects that are read together: a number of bytes, or one object that is larger.
#[derive(Debug)]
pub(crate) struct Room {
    all: usize,
    left: usize,
}

impl Room {
    /// Of this many bytes, all of them free.
    pub(crate) const fn of(bytes: usize) -> Self {
        Self {
            all: bytes,
            left: bytes,
        }
    }

    /// Of an empty page.
    pub(crate) const fn of_page() -> Self {
        Self::of(PAGE_BYTES)
    }

    /// Whether an object of this size still fits.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || self.left == self.all;
        self.left = self.left.saturating_sub(bytes.max(1));
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_room_for_so_many_bytes_or_for_one_object() {
        let taken = |sizes: &[usize]| {
            let mut room = Room::of_page();
            sizes.iter().take_while(|&&size| room.take(size)).count()
        };
        assert_eq!(taken(&[PAGE_BYTES + 1, 1]), 1);
        assert_eq!(taken(&[PAGE_BYTES - 1, 1, 1]), 2);
        assert_eq!(taken(&[1, PAGE_BYTES]), 1);
        assert_eq!(taken(&[0; 600]), 600);
    }
}
