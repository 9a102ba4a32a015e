//! Pseudo-random choices.

/// Pseudo-random numbers, the same in each run. Begins with a number of one's own.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`, which is not 0.
    ///
    /// # Panics
    /// If it is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("it is a small number") % end
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }

    /// The usual one in seven of eight cases, else one of the others.
    ///
    /// # Panics
    /// If there are no others.
    pub fn often<T: Copy>(&mut self, usual: T, others: &[T]) -> T {
        if self.below(8) > 0 { usual } else { self.of(others) }
    }
}
