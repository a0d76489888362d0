"""Callers' keys: their form, their check, and what is kept of them."""

import hashlib
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.keys import ALPHABET, PATTERN, digest, is_key, new_key

KEY = new_key()


def test_a_key_is_vgw_43_characters_and_6_of_a_check() -> None:
    assert re.fullmatch(r"vgw_[0-9A-Za-z]{43}[0-9A-Za-z]{6}", KEY)
    assert PATTERN.fullmatch(KEY)
    assert is_key(KEY)


def test_no_two_keys_are_alike() -> None:
    assert len({new_key() for _ in range(1000)}) == 1000


def test_keys_use_the_whole_alphabet() -> None:
    assert set("".join(new_key()[4:47] for _ in range(200))) == set(ALPHABET)


@given(place=st.integers(0, len(KEY) - 1), char=st.characters(codec="ascii"))
def test_one_wrong_character_is_found(place: int, char: str) -> None:
    assume(KEY[place] != char)
    assert not is_key(KEY[:place] + char + KEY[place + 1 :])


@given(place=st.integers(0, len(KEY) - 2))
def test_two_characters_swapped_are_found(place: int) -> None:
    swapped = KEY[:place] + KEY[place + 1] + KEY[place] + KEY[place + 2 :]
    assert is_key(swapped) == (swapped == KEY)


@given(length=st.integers(0, len(KEY) - 1))
def test_a_key_cut_off_is_found(length: int) -> None:
    assert not is_key(KEY[:length])
    assert not is_key(KEY[length + 1 :])


@given(text=st.text(min_size=1, max_size=3))
def test_a_key_with_more_to_it_is_found(text: str) -> None:
    assert not is_key(KEY + text)
    assert not is_key(text + KEY)


@given(text=st.text())
def test_any_text_may_be_asked_about(text: str) -> None:
    assert not is_key(text)


def test_the_check_is_the_same_for_ever() -> None:
    """Keys handed out once must hold with every later version."""
    assert is_key("vgw_" + "0" * 43 + "0watNr")


def test_only_the_sha256_is_kept() -> None:
    assert digest(KEY) == hashlib.sha256(KEY.encode()).hexdigest()
