"""Hostile repositories, questions and requests for tools over the bridge: as over claude-code."""

from __future__ import annotations

import pytest
from same_tests import taken

pytestmark = pytest.mark.anyio

globals().update(
    taken(
        "test_confinement.py",
        [
            "test_requests_for_what_is_not_granted_have_no_effect_and_each_refusal_is_on_record",
            "test_searches_inside_the_path_do_not_show_secrets",
            "test_a_search_over_a_whole_tree_shows_what_may_be_read_and_nothing_else",
            "test_the_record_is_of_the_paths_that_claude_code_used",
            "test_a_program_cannot_pass_for_refused_by_what_it_prints",
            "test_a_repository_that_gives_orders_is_not_obeyed",
            "test_a_question_is_text_whatever_it_says",
            "test_an_answer_of_another_module_in_the_history_is_text_too",
            "test_what_is_granted_is_done_inside_the_path_and_each_use_is_an_event",
            "test_what_the_processes_write_is_private_to_its_owner",
            "test_a_grant_that_cannot_be_given_is_refused_by_name",
        ],
        fixtures=["module_path", "told"],
    )
)
