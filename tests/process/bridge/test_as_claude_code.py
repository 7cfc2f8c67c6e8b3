"""Conversations, sessions and the edges of turns over the bridge: as over claude-code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from same_tests import taken

if TYPE_CHECKING:
    from claude_comms.background.backends.mcp_bridge._own import OwnBridge

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def bridge(backend: OwnBridge) -> None:
    """It runs already: what the tests count are Claude Code's processes."""
    await backend.link.client()


globals().update(
    taken(
        "test_conversations.py",
        [
            "test_a_turn_streams_its_text_and_reports_what_the_api_counted",
            "test_a_second_question_sends_only_itself_to_the_session_that_holds_the_first",
            "test_a_new_conversation_on_a_warm_process_begins_empty_in_the_same_process",
            "test_two_conversations_take_turns_on_one_instance_without_mixing",
            "test_three_turns_killed_and_a_fourth_from_a_new_process_continue_one_thread",
            "test_a_session_is_found_again_when_the_module_has_moved",
            "test_a_thread_of_another_backend_is_continued_from_its_messages",
            "test_a_session_that_the_api_refuses_is_built_anew_once",
            "test_what_was_asked_after_the_stored_answer_is_left_out_of_a_resumed_session",
            "test_a_changed_system_prompt_starts_a_new_process_for_the_same_conversation",
            "test_each_question_has_the_output_limit_that_it_was_asked_with",
            "test_a_session_whose_file_was_harmed_while_warm_is_built_anew_once",
            "test_tools_paragraphs_and_odd_characters_do_not_make_a_session_look_harmed",
            "test_turns_that_failed_or_are_left_out_of_the_history_do_not_make_a_session_look_harmed",
            "test_a_module_deleted_while_its_process_is_warm_is_said_at_once_and_found_again_when_it_is_back",
            "test_thinking_is_no_text_and_tools_are_events_with_shortened_arguments",
            "test_an_answer_says_which_files_and_which_revision_it_rests_on",
            "test_usage_stays_per_turn_across_clears_resumes_and_rebuilds",
        ],
    )
)
globals().update(
    taken(
        "test_warm.py",
        [
            "test_the_first_question_to_a_warmed_session_starts_no_process",
            "test_warming_again_changes_nothing_and_keeps_the_conversation_that_is_there",
            "test_warming_for_another_system_prompt_starts_another_process",
            "test_a_warmed_session_that_is_asked_for_another_model_answers_with_that",
            "test_a_warmed_session_goes_on_with_a_stored_conversation",
            "test_a_session_that_was_warmed_for_nothing_leaves_nothing",
            "test_a_running_process_can_be_watched",
        ],
    )
)
globals().update(
    taken(
        "test_sessions_kept.py",
        [
            "test_a_session_that_was_replaced_is_deleted_with_the_first_complete_answer_of_the_new_one",
            "test_a_session_that_was_to_be_replaced_stays_while_the_new_one_has_no_answer",
            "test_a_session_whose_first_turn_failed_is_deleted_with_its_process",
            "test_sessions_built_anew_for_turns_that_fail_do_not_pile_up",
        ],
    )
)
globals().update(
    taken(
        "test_faults.py",
        [
            "test_an_interrupt_without_a_turn_does_nothing",
            "test_a_passing_overload_is_ridden_out_and_told",
            "test_a_wait_beyond_the_deadline_is_not_waited_for",
            "test_without_a_directory_and_grants_it_answers_and_has_no_tools",
        ],
    )
)
