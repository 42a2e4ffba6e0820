"""Texts of alerts: the plan's own words, every kind in every language, the same fields in all of them."""

from __future__ import annotations

from string import Formatter

import pytest

from stocksync.upkeep.alert_texts import _TEXTS, KINDS, LANGUAGES, message, title

DETAILS = {
    "count": 1234,
    "time": "2026-03-01 12:00:00",
    "share": 0.25,
    "minutes": 60,
    "hours": 6.0,
    "reason": "outage",
    "checks": "level_differs_from_movements",
}


def test_the_plans_texts_are_the_plans() -> None:
    assert message("pending", "", DETAILS, "raised", "ru") == (
        "🚨 ВНИМАНИЕ: Высокое количество операций синхронизации в очереди\n"
        "Количество: 1234\n"
        "Время: 2026-03-01 12:00:00 UTC\n"
        "Требуется проверка системы синхронизации"
    )
    assert message("failure_rate", "", DETAILS, "raised", "ru") == (
        "⚠️ Высокий процент неудач синхронизации\n"
        "Процент неудач: 25.0%\n"
        "За последние 60 минут\n"
        "Проверьте доступность микросервиса Allegro"
    )
    assert message("stale", "", DETAILS, "raised", "ru") == (
        "⏰ Найдены застрявшие операции синхронизации\n"
        "Количество: 1234\n"
        "Старше: 6 часов\n"
        "Требуется ручное вмешательство"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_language_says_the_same_of_every_kind(kind: str) -> None:
    titles, texts = _TEXTS[kind]
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in texts]

    assert all(those == fields[0] for those in fields)
    assert fields[0] <= {*DETAILS, "subject"}
    assert len(set(titles)) == len(set(texts)) == len(LANGUAGES)
    for language in LANGUAGES:
        raised = message(kind, "seller-1", DETAILS, "raised", language)
        assert message(kind, "seller-1", DETAILS, "repeated", language).endswith(raised)
        assert title(kind, language) in message(kind, "seller-1", DETAILS, "resolved", language)


def test_over_says_of_whom() -> None:
    assert (
        message("lane_paused", "seller-1", {}, "resolved", "en") == "✅ Over: A seller is paused (seller-1)"
    )
