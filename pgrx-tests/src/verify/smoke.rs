//! About an eighth of the client tests: what each mechanism needs at least, and what the server does otherwise from version to
//! version. It tells whether a version holds at all; the whole suite runs on the newest.

use anyhow::{Context, Result};

use super::client_tests::{self, Test};

/// Files of client tests by room, and the tests in them.
const CHOICE: &[(&str, &[&str])] = &[
    ("jobs/at_commit", &["a_job_of_a_prepared_transaction_starts_when_it_is_committed"]),
    (
        "backfill/attacks",
        &[
            "any_unique_key_will_do",
            "an_error_points_into_the_text_it_is_in",
            "poisonous_rows_are_put_aside_and_can_be_tried_again",
            "errors_of_every_kind_are_told_apart",
            "a_violation_that_shows_at_commit_is_a_row_error_too",
            "row_security_applies_to_who_asked",
            "explain_and_preview_change_nothing",
            "pause_takes_effect_after_the_batch_and_cancel_in_it",
        ],
    ),
    (
        "jobs/commands",
        &[
            "commands_that_refuse_a_transaction_block_run",
            "a_commands_error_arrives_with_its_code_detail_and_hint",
            "a_command_whose_worker_is_killed_has_failed",
            "cancel_interrupts_a_command",
        ],
    ),
    (
        "jobs/databases",
        &[
            "a_database_with_running_jobs_is_dropped_at_once",
            "a_copy_is_made_at_once_and_does_not_wake_up",
            "a_standby_sleeps_until_it_is_promoted",
        ],
    ),
    ("house/door", &["a_job_meets_nothing_that_alter_database_or_alter_role_have_set"]),
    ("house/dump", &["a_dump_is_restored_whole_in_any_order"]),
    (
        "house/foreign_errors",
        &[
            "every_field_of_every_error_is_the_same_with_and_without_preload",
            "a_cancel_and_a_termination_look_the_same",
        ],
    ),
    ("jobs/in_the_way", &["nobody_can_lock_the_tables_themselves", "a_full_queue_of_notifications_is_nothing_to_jobs"]),
    (
        "house/lock_attempts",
        &[
            "nobody_waits_behind_a_job_that_waits_for_somebody",
            "an_autovacuum_yields_after_a_second_of_attempts",
            "partitions_that_come_and_go_are_locked_or_passed_over",
            "who_loses_his_rights_while_he_waits_changes_nothing",
            "a_standby_that_stalls_keeps_no_lock",
        ],
    ),
    ("house/older_dumps", &["dumps_of_older_versions_are_restored_and_go_on"]),
    ("house/released_dumps", &["work_and_deletions_of_released_versions_mean_what_they_meant"]),
    ("indexes/bloat", &["deleted_and_vacuumed_rows_are_bloat"]),
    ("indexes/cases", &["used_kept_unused", "duplicate_and_redundant"]),
    ("indexes/views", &["repairs_repair"]),
    ("backfill/keys", &["every_row_is_done_once_whatever_its_key"]),
    ("backfill/new_rows", &["every_way_to_write_is_seen", "several_workers_make_one_trigger"]),
    (
        "house/privileges",
        &[
            "other_peoples_jobs_are_neither_seen_nor_touched",
            "pg_monitor_sees_states_but_no_data",
            "every_text_is_evaluated_as_who_gave_it",
            "an_owner_who_may_no_longer_connect_fails_his_job",
            "a_role_without_login_owns_jobs_from_17_on",
        ],
    ),
    (
        "queries/attacks",
        &[
            "pg_stat_statements_is_read_in_each_of_its_versions",
            "other_libraries_may_come_before_and_after",
            "copy_in_and_a_portal_that_is_given_up_are_counted",
        ],
    ),
    ("queries/reports", &["percentiles_of_known_latencies", "what_ran_is_in_the_report"]),
    (
        "queries/stats",
        &[
            "what_ended_how_is_told_apart",
            "every_way_to_run_a_statement_is_counted_once",
            "a_killed_server_keeps_what_was_drained_and_marks_the_gap",
            "texts_are_bounded_and_carry_no_secrets",
            "counters_of_pg_stat_statements_survive_what_it_does",
        ],
    ),
    ("house/refused_memory", &["errors_have_no_backtrace"]),
    ("row_stamps/stamps", &["nobodys_change_is_lost", "a_dump_carries_stamps", "errors_of_others_pass_unchanged"]),
    ("schedules/runs", &["an_interval_runs_again_and_again", "a_run_ends_at_its_timeout", "runs_never_overlap"]),
    ("schedules/clock", &["the_night_that_skips_an_hour"]),
    (
        "soft_delete/rows",
        &[
            "delete_through_the_view_is_a_delete",
            "foreign_errors_pass_unchanged",
            "row_security_is_the_callers",
            "a_dump_carries_all_of_it",
        ],
    ),
    (
        "soft_delete/ddl",
        &["added_and_renamed_columns_follow", "partitions_and_foreign_keys_that_come_later_are_covered"],
    ),
    ("soft_delete/guard", &["the_guard_reads_rows_as_their_table_has_them"]),
    ("soft_delete/purge", &["what_is_due_goes_with_what_references_it", "partitions_are_purged_where_they_are"]),
    ("soft_delete/standby", &["a_standby_reads_and_refuses_to_write"]),
    ("soft_delete/types", &["cleared_references_come_back_whatever_the_settings", "keys_of_unusual_types"]),
    ("soft_delete/unique", &["what_was_deleted_can_be_registered_again"]),
    (
        "soft_delete/upsert",
        &["a_deleted_row_is_not_changed_however_it_is_met", "other_statements_change_deleted_rows_as_before"],
    ),
    ("soft_delete/view", &["many_rows_go_as_one_and_come_back"]),
    ("jobs/step_limits", &["a_schedules_timeout_ends_what_catches_it"]),
    ("jobs/throttling", &["a_job_waits_for_a_standby_that_stands_still_and_goes_on_by_itself"]),
    (
        "backfill/trees",
        &["trees_of_every_shape_are_filled", "publications_that_would_refuse_the_update_refuse_the_backfill"],
    ),
    ("jobs/verbs", &["each_state_allows_what_it_should"]),
    ("jobs/waiting", &["who_waits_holds_no_snapshot_and_no_transaction_id"]),
    ("jobs/worker_ends", &["an_executor_that_is_terminated_leaves_the_answer_to_the_next"]),
    (
        "jobs/workers",
        &[
            "workers_can_be_started_without_a_restart",
            "three_strikes_fail_a_job_that_kills_its_worker",
            "an_orderly_termination_is_no_strike",
            "a_fast_shutdown_waits_for_nobody",
        ],
    ),
];

/// The tests, each of which is there: of one that was renamed the test runner would say nothing.
pub fn tests() -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (file, chosen) in CHOICE {
        let all = client_tests::of_file(file)?;
        for name in *chosen {
            let test = all.iter().find(|test| test.name.rsplit("::").next() == Some(name));
            tests.push(test.with_context(|| format!("the smoke test {name} is not in tests/{file}.rs"))?.clone());
        }
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_tests_are_there() {
        let count = tests().unwrap().len();
        assert!((50..100).contains(&count), "{count}");
    }
}
