"""What people are told: every kind of alert with its words in Russian, Polish and English. Pure.

The texts of `pending`, `failure_rate` and `stale` are the plan's own (section 7.1).
"""

from collections.abc import Mapping
from typing import Any, Final

LANGUAGES: Final = ("ru", "pl", "en")

# kind -> what it is (ru, pl, en), what is the matter and what to do (ru, pl, en).
_TEXTS: Final[dict[str, tuple[tuple[str, str, str], tuple[str, str, str]]]] = {
    "pending": (
        ("Много операций в очереди", "Wiele operacji w kolejce", "Many operations wait"),
        (
            "🚨 ВНИМАНИЕ: Высокое количество операций синхронизации в очереди\nКоличество: {count}\nВремя: {time} UTC\nТребуется проверка системы синхронизации",
            "🚨 UWAGA: dużo operacji synchronizacji czeka w kolejce\nLiczba: {count}\nCzas: {time} UTC\nTrzeba sprawdzić synchronizację",
            "🚨 ATTENTION: many synchronization operations wait in the queue\nCount: {count}\nTime: {time} UTC\nThe synchronization has to be looked at",
        ),
    ),
    "failure_rate": (
        ("Много неудачных доставок", "Wiele nieudanych dostaw", "Many deliveries fail"),
        (
            "⚠️ Высокий процент неудач синхронизации\nПроцент неудач: {share:.1%}\nЗа последние {minutes} минут\nПроверьте доступность микросервиса Allegro",
            "⚠️ Wysoki odsetek nieudanych synchronizacji\nOdsetek: {share:.1%}\nW ostatnich minutach: {minutes}\nSprawdź, czy mikroserwis Allegro odpowiada",
            "⚠️ A high share of synchronizations fails\nShare: {share:.1%}\nIn the last {minutes} minutes\nCheck whether the Allegro microservice can be reached",
        ),
    ),
    "stale": (
        ("Застрявшие операции", "Zablokowane operacje", "Stale operations"),
        (
            "⏰ Найдены застрявшие операции синхронизации\nКоличество: {count}\nСтарше: {hours:g} часов\nТребуется ручное вмешательство",
            "⏰ Znaleziono zablokowane operacje synchronizacji\nLiczba: {count}\nStarsze niż (godziny): {hours:g}\nPotrzebna jest ręczna interwencja",
            "⏰ Stale synchronization operations were found\nCount: {count}\nOlder than {hours:g} hours\nA person has to look at them",
        ),
    ),
    "failed": (
        ("Операции не доставлены", "Operacje niedostarczone", "Operations were given up"),
        (
            "❗ Операции, от доставки которых система отказалась: {count}\nОткройте их на странице и нажмите «Повторить», когда причина устранена",
            "❗ Operacje, których system zaprzestał dostarczać: {count}\nOtwórz je na stronie i naciśnij „Ponów”, gdy przyczyna zniknie",
            "❗ Operations that were given up: {count}\nOpen them on the page and press Retry once the cause is gone",
        ),
    ),
    "breaker": (
        ("Микросервис не отвечает", "Mikroserwis nie odpowiada", "The microservice does not answer"),
        (
            "🔌 Микросервис заказов не обслуживает нас уже {minutes} мин ({reason})\nНичего не теряется: доставка продолжится сама, когда он ответит",
            "🔌 Mikroserwis zamówień nie obsługuje nas od {minutes} min ({reason})\nNic nie ginie: dostawa ruszy sama, gdy odpowie",
            "🔌 The orders microservice has not served us for {minutes} min ({reason})\nNothing is lost: delivery goes on by itself once it answers",
        ),
    ),
    "lane_paused": (
        ("Аккаунт приостановлен", "Konto wstrzymane", "A seller is paused"),
        (
            "⏸ Доставка для аккаунта {subject} приостановлена: {reason}\nУстраните причину и нажмите «Продолжить»",
            "⏸ Dostawa dla konta {subject} jest wstrzymana: {reason}\nUsuń przyczynę i naciśnij „Wznów”",
            "⏸ Deliveries of account {subject} are paused: {reason}\nFix the cause, then press Resume",
        ),
    ),
    "redis_away": (
        ("Redis не отвечает", "Redis nie odpowiada", "Redis does not answer"),
        (
            "🗄 Redis не отвечает: новые задания не запускаются\nНичего не теряется, но доставка ждёт. Проверьте Redis",
            "🗄 Redis nie odpowiada: nowe zadania się nie uruchamiają\nNic nie ginie, ale dostawa czeka. Sprawdź Redis",
            "🗄 Redis does not answer: no new jobs are run\nNothing is lost, but delivery waits. Check Redis",
        ),
    ),
    "worker_silent": (
        ("Обработчик молчит", "Worker milczy", "No worker is heard from"),
        (
            "💤 Процесс worker не подаёт признаков жизни\nЗапустите его снова: без него ничего не доставляется",
            "💤 Proces worker nie daje znaku życia\nUruchom go ponownie: bez niego nic nie jest dostarczane",
            "💤 No worker process is heard from\nStart it again: without it nothing is delivered",
        ),
    ),
    "scheduler_silent": (
        ("Планировщик молчит", "Scheduler milczy", "No scheduler is heard from"),
        (
            "💤 Процесс scheduler не подаёт признаков жизни\nЗапустите его снова: без него не будет повторов",
            "💤 Proces scheduler nie daje znaku życia\nUruchom go ponownie: bez niego nie ma ponowień",
            "💤 No scheduler process is heard from\nStart it again: without it nothing is retried",
        ),
    ),
    "unclaimed": (
        ("Заказы никто не берёт", "Nikt nie bierze zamówień", "Due orders are not taken"),
        (
            "⌛ Заказы ждут доставки уже {minutes} мин, и их никто не берёт\nПроверьте процесс worker",
            "⌛ Zamówienia czekają na dostawę od {minutes} min i nikt ich nie bierze\nSprawdź proces worker",
            "⌛ Orders have been due for {minutes} min and nobody takes them\nCheck the worker process",
        ),
    ),
    "audit": (
        ("Учёт не сходится", "Ewidencja się nie zgadza", "The books do not balance"),
        (
            "🧾 Проверка учёта нашла нарушения: {checks}\nЗапустите `python -m stocksync audit` и позовите разработчика",
            "🧾 Kontrola ewidencji wykryła niezgodności: {checks}\nUruchom `python -m stocksync audit` i wezwij programistę",
            "🧾 The audit found broken promises: {checks}\nRun `python -m stocksync audit` and call a developer",
        ),
    ),
    "differences": (
        ("Расхождения с микросервисом", "Rozbieżności z mikroserwisem", "Differences from the microservice"),
        (
            "🔍 Расхождений с микросервисом, ждущих решения: {count}\nОткройте страницу «Сверка»",
            "🔍 Rozbieżności z mikroserwisem czekających na decyzję: {count}\nOtwórz stronę „Uzgodnienie”",
            "🔍 Differences from the microservice that wait for a decision: {count}\nOpen the page Reconciliation",
        ),
    ),
    "reconciliation": (
        ("Сверка не завершена", "Uzgodnienie nieukończone", "A reconciliation did not come to its end"),
        (
            "🔍 Сверка аккаунта {subject} остановлена: {reason}\nНичего не исправлено; проверьте микросервис",
            "🔍 Uzgodnienie konta {subject} zatrzymane: {reason}\nNic nie naprawiono; sprawdź mikroserwis",
            "🔍 The reconciliation of account {subject} stopped: {reason}\nNothing was repaired; check the microservice",
        ),
    ),
    "in_doubt": (
        ("Операции под вопросом", "Operacje niepewne", "Operations in doubt"),
        (
            "❓ Неизвестно, списан ли товар, операций: {count}\nПосмотрите на складе и ответьте на странице операции",
            "❓ Nie wiadomo, czy towar został zdjęty ze stanu, operacji: {count}\nSprawdź w magazynie i odpowiedz na stronie operacji",
            "❓ Whether stock was deducted is not known, operations: {count}\nLook in the inventory and answer on the operation's page",
        ),
    ),
}
KINDS: Final = tuple(_TEXTS)
_AGAIN: Final = ("🔁 Всё ещё так.", "🔁 Nadal tak jest.", "🔁 Still so.")
_REASONS: Final = {
    "outage": ("нет ответа", "brak odpowiedzi", "no answer"),
    "credentials": ("ключ не принимается", "klucz jest odrzucany", "our key is refused"),
}
_OVER: Final = ("✅ Закончилось: {title}", "✅ Koniec: {title}", "✅ Over: {title}")


def title(kind: str, language: str) -> str:
    """What the alert is, in a few words."""
    return _TEXTS[kind][0][LANGUAGES.index(language)]


def text(kind: str, subject: str, details: Mapping[str, Any], language: str) -> str:
    """What is the matter and what to do, in two to four lines."""
    number, reason = LANGUAGES.index(language), details.get("reason")
    said = {**details, "reason": _REASONS[reason][number]} if reason in _REASONS else details
    return _TEXTS[kind][1][number].format(subject=subject, **said)


def message(kind: str, subject: str, details: Mapping[str, Any], event: str, language: str) -> str:
    """The notification that is pending: `raised`, `repeated` or `resolved`."""
    number = LANGUAGES.index(language)
    if event == "resolved":
        return _OVER[number].format(title=title(kind, language)) + (f" ({subject})" if subject else "")
    said = text(kind, subject, details, language)
    return f"{_AGAIN[number]}\n{said}" if event == "repeated" else said
