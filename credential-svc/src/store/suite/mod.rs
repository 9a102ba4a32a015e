//! What every store must do, by itself and under the service. A store runs all of it by implementing [`Bench`], and naming that in
//! `store_suite!`.

mod accounts;
mod canary;
mod changes;
mod disconnecting;
mod exchange;
mod kept;
mod machine;
mod renewal;
mod revoking;
mod scopes;
mod service;
mod sign_in;
mod stopping;
mod values;

use crate::domain::{owner::Owner, ports::Store};

pub(super) use self::{
    canary::*, changes::*, disconnecting::*, exchange::*, kept::*, machine::*, renewal::*, revoking::*, scopes::*,
    sign_in::*, stopping::*, values::*,
};

/// A place where a store keeps values, and what the suite does to it.
pub(super) trait Bench: Sized {
    type Store: Store;

    /// Whether this machine has what it requires. If not, the calling test is recorded as not run.
    fn is_here() -> bool {
        true
    }
    /// Creates an empty one.
    async fn new() -> Self;
    /// Connects to it, as each replica does, and as a replica does again after a crash.
    async fn connect(&self) -> Self::Store;
    /// Copies what a crash at this moment would leave, or a backup contain.
    async fn copy(&self) -> Self;
    /// Makes the values unreachable over this connection.
    async fn cut_off(store: &mut Self::Store);
    /// Overwrites the stored value of an owner with something that cannot be read.
    async fn damage(&self, owner: &Owner);
}

/// Runs each case of the suite on a bench, as a separate test.
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
            a_damaged_value_is_corrupt_and_can_be_deleted,
            an_unreachable_store_is_unavailable,
            // The service on it.
            changes_at_once_lose_nothing,
            a_change_that_loses_is_decided_again,
            a_change_that_always_loses_gives_up,
            a_request_sent_again_gets_its_first_answer,
            a_request_whose_answer_was_lost_is_made_once,
            what_was_deleted_is_in_no_answer_that_is_kept,
            a_crash_before_the_report_is_repaired,
            an_erasure_meets_a_put_in_progress,
            an_erasure_that_was_interrupted_is_completed,
            a_restored_backup_gets_newer_generations_than_were_reported,
            a_registry_restored_to_before_a_deletion_voids_its_tombstone,
            a_void_tombstone_is_renewed_by_another_deletion,
            an_authorization_alone_voids_no_tombstone,
            tombstones_go_after_a_week,
            a_damaged_record_is_repaired_by_deleting_it,
            an_authorization_ahead_of_the_watch_reaches_the_installations,
            a_vend_reads_each_record_once,
            // What was vended lately.
            a_warm_vend_reads_nothing,
            a_change_is_seen_by_the_replica_that_made_it,
            a_change_of_another_replica_is_seen_once_it_is_known,
            what_was_vended_serves_while_the_store_is_away,
            a_store_that_is_slow_keeps_no_vend_waiting,
            a_token_serves_until_it_expires_while_the_store_is_away,
            // With tokens of authorization servers.
            an_account_is_connected_and_used,
            a_sign_in_is_finished_once_by_who_began_it,
            another_servers_answer_is_refused,
            a_server_that_cannot_be_used_is_refused,
            the_upstream_says_where_to_sign_in,
            the_entrys_client_is_used_with_its_secret,
            clients_that_admins_registered_are_not_mixed_up,
            a_code_that_is_not_accepted_connects_nothing,
            another_account_replaces_the_first,
            scopes_that_are_demanded_are_asked_for_next_time,
            an_account_says_what_its_entry_names_since,
            a_token_goes_where_it_is_for,
            a_server_never_learns_the_secret_of_a_client_of_another,
            who_disconnects_during_a_sign_in_stays_disconnected,
            who_may_no_longer_connect_connects_nothing,
            a_process_that_stops_sends_no_code,
            what_waits_for_its_turn_is_not_sent_once_the_process_stops,
            what_was_issued_is_revoked_with_its_owner,
            a_revocation_that_failed_is_made_by_the_next_process,
            an_account_that_is_connected_again_is_not_revoked,
            what_is_never_revoked_is_forgotten_after_a_week,
            fifty_callers_of_two_replicas_renew_once,
            a_token_is_renewed_while_it_still_serves,
            a_rotated_token_is_stored_before_it_is_used,
            a_kill_between_any_two_steps_leaves_a_token_or_the_reason,
            callers_wait_for_a_lease_only_where_they_must,
            the_only_process_takes_up_what_one_before_it_left,
            a_transient_failure_marks_nothing,
            a_server_that_asks_for_a_pause_gets_it,
            a_server_that_many_wait_for_is_said_to_be_busy,
            a_refusal_for_good_asks_for_a_person,
            a_token_that_cannot_be_renewed_expires,
            a_rejected_token_is_replaced_once_for_all,
            a_put_during_a_renewal_loses_nothing,
            what_is_disconnected_during_a_renewal_stays_so,
            all_callers_share_a_machines_token,
            another_secret_gives_another_token,
            a_machine_gets_no_scopes_that_only_the_upstream_names,
            a_server_that_is_away_is_not_asked_by_each_call,
            what_fails_for_one_caller_concerns_no_other,
            an_upstream_that_rejects_every_token_causes_few_exchanges,
            a_token_that_may_do_less_is_exchanged_by_itself,
            nothing_that_is_told_or_logged_holds_a_token,
        );
    };
    ($bench:ident: $($case:ident),* $(,)?) => {
        mod behaves {
            use super::$bench;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if !<$bench as $crate::store::suite::Bench>::is_here() {
                        return;
                    }
                    $crate::store::suite::$case::<$bench>().await;
                }
            )*
        }
    };
}
pub(super) use store_suite;
