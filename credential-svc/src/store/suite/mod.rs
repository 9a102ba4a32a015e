//! What every store must do, by itself and under the service. A store runs all of it by implementing [`Bench`], and naming that in
//! `store_suite!`.

mod changes;
mod service;
mod values;

use crate::domain::{owner::Owner, ports::Store};

pub(super) use self::{changes::*, values::*};

/// A place where values are kept, and what the suite does to it.
pub(super) trait Bench: Sized {
    type Store: Store;

    /// An empty one.
    async fn new() -> Self;
    /// A connection of its own, as each replica has one, or this one after a crash.
    async fn connect(&self) -> Self::Store;
    /// Everything that would be found after a crash at this moment, or in a backup that was taken now.
    async fn copy(&self) -> Self;
    /// From now on, this connection reaches nothing.
    async fn cut_off(store: &Self::Store);
    /// Replaces an owner's value by something that no store wrote.
    async fn damage(&self, owner: &Owner);
}

/// Runs each case of the suite on a bench, as a test of its own.
macro_rules! store_suite {
    ($bench:ident) => {
        $crate::store::suite::store_suite!($bench:
            // The store.
            a_write_takes_the_version_it_was_decided_on,
            of_many_writers_one_wins_each_version,
            every_write_outlives_a_crash,
            large_and_hostile_values_come_back_as_they_were,
            owners_are_listed_page_by_page,
            what_is_deleted_is_gone_and_can_be_created_again,
            a_damaged_value_is_told_and_can_be_deleted,
            a_store_out_of_reach_is_unavailable,
            // The service on it.
            changes_at_once_lose_nothing,
            a_change_that_loses_is_decided_anew,
            a_change_that_always_loses_gives_up,
            a_request_sent_again_gets_its_first_answer,
            a_request_whose_answer_was_lost_is_made_once,
            a_crash_before_the_report_is_made_good,
            an_erasure_meets_a_put_that_is_under_way,
            an_erasure_that_was_interrupted_is_completed,
            a_restored_backup_has_newer_generations_than_were_told,
            marks_of_erased_owners_go_after_a_week,
            a_damaged_record_is_repaired_by_deleting_it,
            a_vend_reads_each_record_once,
        );
    };
    ($bench:ident: $($case:ident),* $(,)?) => {
        mod behaves {
            use super::$bench;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::store::suite::$case::<$bench>().await;
                }
            )*
        }
    };
}
pub(super) use store_suite;
