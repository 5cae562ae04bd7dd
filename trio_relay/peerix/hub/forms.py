"""What clients of the Mercure door write: queries of subscribers, and the forms that are published. Pure.

`Mercure <https://mercure.rocks/spec>`_ has more than is needed here. Topics are exact strings, or ``*`` for a
subscriber; URI templates are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from ...exceptions import RemoteProtocolError
from .topics import EVERY

__all__ = ["MAX_FIELDS", "Publication", "Query", "parse_publication_untrusted", "parse_query_untrusted"]

MAX_FIELDS: Final = 1024
"""Of a query, or of a form."""
_MAX_ID: Final = 256
_MAX_TYPE: Final = 64
_RETRY: Final = re.compile(r"[0-9]{1,9}")
_BREAKING: Final = re.compile(r"[\0\r\n]")


@dataclass(frozen=True, slots=True)
class Query:
    """What a request names in its URL.

    Attributes:
        topics: that it is about, without repetitions.
        token: what it has to show.
        resumes: whether it names the last event that it got.
    """

    topics: tuple[str, ...]
    token: str | None
    resumes: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be said, as of `Update`.

    Attributes:
        id: empty: the hub makes one.
        private: whether only those may hear it who were allowed to hear of its topics.
    """

    topics: tuple[str, ...]
    data: str
    id: str
    type: str
    retry: int | None
    private: bool


def parse_query_untrusted(query: str, most_topic: int) -> Query:
    """The query of a subscriber.

    Args:
        most_topic: characters of a topic.

    Raises:
        RemoteProtocolError: it is no query, or has a topic that can not be subscribed to.
    """
    fields = _fields_untrusted(query)
    topics = _topics(fields, most_topic)
    if any("{" in topic for topic in topics):
        raise RemoteProtocolError("expected topics as they are, or *: URI templates are not supported")
    resumes = any(name.lower() in ("lasteventid", "last-event-id") for name, _ in fields)
    return Query(topics, dict(fields).get("authorization"), resumes)


def parse_publication_untrusted(body: bytes, most_topic: int, most_data: int) -> Publication:
    """The form of a publisher.

    Args:
        body: its size was bounded by the caller.
        most_topic: characters of a topic.
        most_data: bytes of the data in UTF-8.

    Raises:
        RemoteProtocolError: it is no form, has no topic or a bad one, or another field has no value that it may have.
    """
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        raise RemoteProtocolError("expected a form in url encoding") from None
    fields = _fields_untrusted(text)
    topics = _topics(fields, most_topic)
    if not topics:
        raise RemoteProtocolError("expected a topic in the form")
    if EVERY in topics:
        raise RemoteProtocolError("expected the name of a topic, not *")
    form = dict(fields)
    data, id, kind, retry = (form.get(name, "") for name in ("data", "id", "type", "retry"))
    if len(data.encode("utf-8", "replace")) > most_data:
        raise RemoteProtocolError(f"expected at most {most_data} bytes of data")
    if len(id) > _MAX_ID or id.startswith("#") or _BREAKING.search(id) is not None:
        raise RemoteProtocolError(f"expected an id of one line and at most {_MAX_ID} characters, not with # first")
    if len(kind) > _MAX_TYPE or _BREAKING.search(kind) is not None:
        raise RemoteProtocolError(f"expected a type of one line and at most {_MAX_TYPE} characters")
    if retry and _RETRY.fullmatch(retry) is None:
        raise RemoteProtocolError("expected a number of milliseconds as retry")
    # Whatever its value is.
    return Publication(topics, data, id, kind, int(retry) if retry else None, "private" in form)


def _fields_untrusted(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RemoteProtocolError(f"expected at most {MAX_FIELDS} fields") from None


def _topics(fields: list[tuple[str, str]], most: int) -> tuple[str, ...]:
    topics = tuple(dict.fromkeys(value for name, value in fields if name == "topic"))
    for topic in topics:
        if not 0 < len(topic) <= most or _BREAKING.search(topic) is not None:
            raise RemoteProtocolError(f"expected topics of one line and of 1 to {most} characters")
    return topics
