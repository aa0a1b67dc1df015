//! One conformance suite for every database behind the port `Store`.
//!
//! A case speaks to the store through the port, and to the database as a person does: in SQL, over a connection of its
//! own. A database joins by one line, `conformance!(its::Database)`; what only it does is tested beside that line.

mod bench;
mod bulk;
mod by_command;
mod changes;
mod delivery;
mod edits;
mod history;
mod incidents;
mod lanes;
mod late;
mod mariadb;
mod network;
mod partitions;
mod planning;
mod postgres;
mod reads;
mod rules;
mod runs;
mod schema;
mod sqlite;
mod status;
mod together;

/// Makes one test of each case for the database `$database`; a server has several writers at once.
macro_rules! conformance {
    ($database:ty, server) => {
        $crate::store::conformance!($database);
        $crate::store::conformance!(@cases $database;
            late: what_commits_late_is_seen,
            late: what_is_taken_back_does_no_harm,
            late: who_may_only_insert_is_seen,
            late: every_edit_of_many_sessions_is_seen,
        );
    };
    ($database:ty) => {
        $crate::store::conformance!(@cases $database;
            bulk: a_large_batch_is_written,
            bulk: strange_texts_are_kept,
            by_command: an_acknowledgment_by_command_is_as_good_as_by_sql,
            by_command: the_same_acknowledgment_is_made_once,
            by_command: a_command_makes_one_silence_and_another_ends_it,
            by_command: how_far_a_room_was_read_is_kept_and_edits_nothing,
            by_command: how_everything_stands_is_counted,
            by_command: channels_that_were_told_are_told_of_the_acknowledgment_once,
            by_command: nobody_is_told_of_acknowledgments_that_do_not_hold,
            changes: an_insert_an_update_and_a_delete_are_seen_with_fresh_rows,
            changes: ten_thousand_rows_in_one_transaction_are_seen_in_pages,
            changes: own_writes_wake_nobody,
            changes: a_null_that_is_already_there_is_a_new_request,
            changes: updated_at_follows_the_configuration_only,
            changes: a_pruned_log_keeps_its_place,
            changes: what_was_just_written_is_not_pruned,
            changes: a_row_written_again_under_its_id_is_a_new_edit,
            delivery: messages_to_one_recipient_keep_their_order,
            delivery: what_was_not_delivered_is_told_by_its_recovery,
            delivery: a_lease_keeps_others_out_until_it_ends,
            delivery: only_the_holder_settles,
            delivery: leases_of_nodes_that_are_gone_are_given_up,
            delivery: a_claim_that_was_not_answered_is_given_up,
            delivery: the_next_attempt_is_the_earliest_that_can_be_taken,
            delivery: a_row_that_cannot_be_read_steps_aside,
            delivery: a_backlog_is_taken_in_pieces,
            edits: state_counters_and_recipients_count_as_they_are_now,
            edits: an_edited_interval_counts_at_once,
            edits: an_edited_question_discards_the_outcome,
            edits: a_paused_or_deleted_row_takes_nothing,
            edits: a_state_set_to_ok_closes_the_incident_once,
            edits: a_state_set_to_alert_opens_an_incident_silently,
            edits: a_deleted_monitor_owes_one_recovery,
            edits: mismatches_are_found,
            history: what_belongs_to_an_open_incident_stays,
            history: the_rest_goes_in_steps,
            history: history_survives_the_row,
            history: runs_are_summed_up_by_hour_and_day,
            history: an_hour_is_summed_up_when_nothing_more_can_come,
            history: many_monitors_are_written_in_steps_and_a_restart_goes_on,
            history: weeks_without_runs_are_skipped,
            history: what_is_not_summed_up_is_not_forgotten,
            history: figures_go_by_their_own_age,
            incidents: an_alert_reminders_and_one_recovery,
            incidents: a_recovery_is_owed_to_everyone_who_was_told,
            incidents: an_empty_list_tells_nobody,
            incidents: what_is_held_or_withdrawn_told_nobody,
            incidents: an_acknowledgment_by_sql_holds_reminders,
            incidents: nothing_is_said_twice,
            incidents: a_reopened_incident_stops_nothing,
            lanes: each_lane_is_taken_for_itself,
            lanes: a_long_backlog_holds_up_no_fresh_critical_alert,
            lanes: how_each_attempt_ended_is_in_the_ledger,
            lanes: what_the_service_calls_the_first_message_is_known_to_the_next,
            planning: the_outlook_tells_what_there_is_to_plan_and_to_send,
            planning: a_plan_decides_from_what_it_is_shown,
            planning: what_is_sent_or_held_says_since_when_and_why,
            planning: what_does_not_go_out_says_why,
            planning: new_messages_of_a_plan_are_queued_and_digests_keep_their_order,
            planning: a_message_waits_for_its_digest,
            planning: a_bad_row_alone_is_given_up_for_good,
            planning: a_bad_row_keeps_no_other_from_being_planned,
            planning: who_was_told_nothing_is_owed_no_recovery,
            planning: held_ones_are_looked_at_when_their_time_comes_and_no_sooner,
            rules: an_edit_of_the_rules_is_seen,
            rules: a_row_that_could_not_be_read_is_refused,
            rules: the_rules_are_read_as_they_are_written,
            rules: a_report_is_written_and_what_was_held_is_looked_at,
            runs: a_run_writes_all_it_says,
            runs: a_tick_is_applied_once,
            runs: a_tick_in_the_future_holds_up_nothing,
            runs: a_run_that_was_asked_for_is_applied_once,
            runs: a_request_during_the_run_survives_it,
            runs: a_manual_run_moves_no_tick,
            runs: one_bad_piece_harms_no_neighbour_that_is_applied_alone,
            runs: a_batch_decides_each_piece_for_itself,
            runs: text_of_any_kind_is_kept,
            runs: a_guard_that_does_not_hold_writes_nothing,
            schema: every_documented_column_is_there,
            schema: the_minimal_insert_has_the_documented_defaults,
            schema: bad_values_are_refused_by_name,
            schema: words_compare_exactly,
            schema: nodes_come_and_go,
            schema: an_installation_without_nodes_says_since_when,
            schema: monitors_are_found_by_id_uuid_and_name,
            schema: the_command_line_registers_and_pauses,
            status: each_status_is_told_apart,
            status: an_acknowledgment_is_shown_until_it_ends,
            status: the_backlog_is_counted,
            together: the_same_tick_by_two_nodes_is_applied_once,
            together: what_a_person_is_writing_is_not_overwritten,
            together: a_lease_is_renewed_however_long_the_outbox_is_locked,
            together: what_was_held_is_not_told_while_its_incident_ends,
            together: who_waits_for_a_parent_that_is_just_ending_its_incident_waits_a_moment,
            together: a_message_that_a_person_has_locked_holds_up_no_other,
            together: what_is_held_and_locked_keeps_no_outcome_from_being_written,
            together: a_batch_with_a_stale_an_edited_and_a_poisoned_run,
            together: two_nodes_never_take_the_same_notification,
            together: limits_count_what_another_node_planned,
        );
    };
    (@cases $database:ty; $($module:ident: $case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let bench = $crate::store::bench::Bench::new::<$database>().await;
                $crate::store::$module::$case(&bench).await;
                bench.close().await;
            }
        )*
    };
}
use conformance;
