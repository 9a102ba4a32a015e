//! Counts what the tests allocate: each call of a client costs what its allocations cost.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
};

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, which counts where it is asked to.
struct Counting;

/// An allocation: its size, and where it was made if that was to be found out.
pub(crate) struct Allocation {
    pub(crate) bytes: usize,
    pub(crate) site: Option<Backtrace>,
}

thread_local! {
    /// What this thread has allocated while it was counted.
    static COUNTED: RefCell<Counted> = const { RefCell::new(Counted { counts: false, finds_sites: false, all: Vec::new() }) };
}

struct Counted {
    counts: bool,
    finds_sites: bool,
    all: Vec<Allocation>,
}

fn count(bytes: usize) {
    // What is allocated for the count finds it borrowed, and what a thread allocates at its end finds none.
    let _ = COUNTED.try_with(|counted| {
        if let Ok(mut counted) = counted.try_borrow_mut()
            && counted.counts
        {
            let site = counted.finds_sites.then(Backtrace::force_capture);
            counted.all.push(Allocation { bytes, site });
        }
    });
}

#[expect(unsafe_code, reason = "an allocator can be written only so")]
// SAFETY: each method does what the system's allocator does; the count, besides, allocates only by this allocator itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller promises what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// What is allocated while this is polled, on a runtime with one thread. Other tasks of the thread do not count.
pub(crate) async fn counted<F: Future + ?Sized>(
    mut future: Pin<Box<F>>,
    finds_sites: bool,
) -> (F::Output, Vec<Allocation>) {
    let done = poll_fn(|context| {
        let counts = |counts| {
            COUNTED.with_borrow_mut(|counted| (counted.counts, counted.finds_sites) = (counts, counts && finds_sites));
        };
        counts(true);
        let polled = future.as_mut().poll(context);
        counts(false);
        polled
    })
    .await;
    (
        done,
        COUNTED.with_borrow_mut(|counted| std::mem::take(&mut counted.all)),
    )
}
