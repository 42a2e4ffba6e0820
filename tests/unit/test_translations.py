"""The catalogues: nothing without a translation, nothing left over, placeholders kept, the compiled ones fresh."""

from __future__ import annotations

import io
import re
from gettext import GNUTranslations
from pathlib import Path
from typing import IO, Any, get_args

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from stocksync.upkeep import discrepancies
from stocksync.web import words
from stocksync.web.frame import LANGUAGES

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
SCHEMA = (ROOT / "stocksync" / "store" / "migrations" / "0001_initial.py").read_text(encoding="utf-8")
TRANSLATED = [code for code in LANGUAGES if code != "en"]


def catalogue(language: str) -> Catalog:
    with (WEB / "translations" / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


def texts() -> set[str | tuple[str, ...]]:
    """What the code and the templates say."""
    kinds = [("**.py", "python"), ("templates/**.html", "jinja2")]
    found = extract_from_dir(WEB, kinds, keywords={**DEFAULT_KEYWORDS, "_": None, "ngettext": (1, 2)})
    return {message for _, _, message, _, _ in found}


def forms(message: Message) -> list[str]:
    said = message.string or ""
    return [said] if isinstance(said, str) else list(said)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_has_its_translation_and_there_are_no_others(language: str) -> None:
    assert {message.id for message in catalogue(language) if message.id} == texts()


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_empty_or_fuzzy_and_every_number_has_its_form(language: str) -> None:
    plurals = catalogue(language).num_plurals
    for message in catalogue(language):
        if message.id:
            assert all(forms(message)), message.id
            assert not message.fuzzy, message.id
            assert len(forms(message)) == (1 if isinstance(message.id, str) else plurals), message.id


@pytest.mark.parametrize("language", TRANSLATED)
def test_placeholders_are_those_of_the_text(language: str) -> None:
    named = re.compile(r"%\(\w+\)[a-z]")
    for message in catalogue(language):
        original = message.id if isinstance(message.id, str) else message.id[-1]
        for form in forms(message):
            assert sorted(named.findall(form)) == sorted(named.findall(original)), form if message.id else ""


def compiled_texts(file: IO[bytes]) -> dict[Any, str]:
    """What a compiled catalogue says; its header names the tool that wrote it, and nobody reads that."""
    read: dict[Any, str] = vars(GNUTranslations(file))["_catalog"]
    return {text: said for text, said in read.items() if text}


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_compiled_catalogue_is_that_of_the_words(language: str) -> None:
    fresh = io.BytesIO()
    write_mo(fresh, catalogue(language))
    fresh.seek(0)

    with (WEB / "translations" / language / "LC_MESSAGES" / "messages.mo").open("rb") as shipped:
        assert compiled_texts(shipped) == compiled_texts(fresh) != {}


@pytest.mark.parametrize(
    ("name", "table", "column"),
    [
        ("STATUS", "pending_stock_operations", "status"),
        ("OPERATION_TYPE", "pending_stock_operations", "operation_type"),
        ("WAITING", "stock_sync_orders", "waiting"),
        ("CAUSE", "stock_sync_movements", "cause"),
        ("RUN", "stock_sync_reconciliations", "status"),
        ("RUN", "stock_sync_task_runs", "status"),
        ("DIFFERENCE", "stock_sync_discrepancies", "kind"),
        ("ENDED", "stock_sync_discrepancies", "status"),
    ],
)
def test_every_code_of_the_database_has_a_word(name: str, table: str, column: str) -> None:
    accepted = re.search(rf"CREATE TABLE {table} [^\"]*CHECK \({column} IN \(([^)]*)\)", SCHEMA)
    assert accepted
    codes = re.findall(r"'(\w+)'", accepted[1])
    assert len(codes) >= 3
    assert set(codes) <= set(words.WORDS[name])


def test_every_class_of_a_comparison_has_a_word() -> None:
    assert set(get_args(discrepancies.Kind)) <= set(words.WORDS["DIFFERENCE"])
