//! A list that is almost always short.

/// Elements in their order, the first `FEW` in place: as long as there are no more, they take no memory of their own.
#[derive(Clone, Debug)]
pub(super) struct Few<T, const FEW: usize> {
    first: [Option<T>; FEW],
    count: usize,
    rest: Vec<T>,
}

impl<T, const FEW: usize> Few<T, FEW> {
    pub(super) fn new() -> Self {
        Self {
            first: [const { None }; FEW],
            count: 0,
            rest: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, element: T) {
        match self.first.get_mut(self.count) {
            Some(place) => {
                *place = Some(element);
                self.count += 1;
            }
            None => self.rest.push(element),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count + self.rest.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().map_while(Option::as_ref).chain(&self.rest)
    }

    pub(super) fn into_elements(self) -> impl Iterator<Item = T> {
        self.first.into_iter().map_while(|place| place).chain(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_order_however_many_there_are() {
        for count in 0..6 {
            let mut few = Few::<String, 3>::new();
            (0..count).for_each(|number| few.push(number.to_string()));
            let all: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            assert!(few.iter().eq(&all), "{few:?}");
            assert!(few.clone().into_elements().eq(all));
            assert_eq!((few.len(), few.rest.capacity() > 0), (count, count > 3));
        }
    }
}
