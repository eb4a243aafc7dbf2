"""Passes on the rows of the tables that are attached to an e-mail. What it does is told in README.md.

What is imported here is in the component; later there is nothing to import from, not even for encodings.
"""

import base64
import binascii
import csv
import encodings.cp1252
import encodings.utf_8_sig
import io
import math
import re

import sandbar
import wit_world

# Set by `configure`: each call has a `self` of its own.
topic = "{topic}/rows"
delimiter = "auto"
rows_max = 1000

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


class WitWorld(wit_world.WitWorld):
    def configure(self) -> None:
        global topic, delimiter, rows_max
        topic = sandbar.setting("topic", topic)
        delimiter = sandbar.setting("delimiter", delimiter).replace("tab", "\t")
        if delimiter != "auto" and len(delimiter) != 1:
            raise sandbar.refuse(f'setting `delimiter` is "{delimiter}": it must be one character, tab or auto')
        rows_max = int(sandbar.number("rows_max", rows_max))

    def handle(self, reading: sandbar.Reading) -> list[sandbar.Output]:
        mail = sandbar.json(reading)
        if not isinstance(mail, dict) or not isinstance(mail.get("attachments", []), list):
            raise sandbar.reject("the payload is no e-mail")
        outputs = []
        for attachment in mail.get("attachments", []):
            if is_table(attachment):
                outputs += rows(reading, mail, attachment)
        return outputs


def is_table(attachment: dict) -> bool:
    name, kind = str(attachment.get("name", "")).lower(), str(attachment.get("mime_type", "")).lower()
    return kind in ("text/csv", "text/tab-separated-values", "application/csv") or name.endswith((".csv", ".tsv"))


def rows(reading: sandbar.Reading, mail: dict, attachment: dict) -> list[sandbar.Output]:
    name = attachment.get("name", "")
    try:
        content = base64.b64decode(attachment["data"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise sandbar.reject(f"attachment `{name}` is not base 64") from None
    lines = list(csv.reader(io.StringIO(decode(content), newline=""), delimiter=find_delimiter(content)))
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if len(lines) - 1 > rows_max:
        raise sandbar.reject(f"attachment `{name}` has {len(lines) - 1} rows, more than {rows_max}")
    if not lines:
        return []
    header = [cell.strip() or f"column{index + 1}" for index, cell in enumerate(lines[0])]
    source = {"from": mail.get("from"), "subject": mail.get("subject"), "file": name}
    to = topic.replace("{topic}", reading.topic)
    return [
        sandbar.message(to, {"row": number, "values": dict(zip(header, map(value, line))), "source": source})
        for number, line in enumerate(lines[1:], 1)
    ]


def decode(content: bytes) -> str:
    """Spreadsheets write UTF-8 with or without a mark at its beginning, or the code page of Western Windows."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def find_delimiter(content: bytes) -> str:
    if delimiter != "auto":
        return delimiter
    first = decode(content).split("\n", 1)[0]
    return max(";,\t|", key=first.count)


def value(cell: str) -> object:
    cell = cell.strip()
    if cell == "":
        return None
    if not NUMBER.fullmatch(cell) or len(cell) > 15:
        return cell
    number = float(cell) if any(c in cell for c in ".eE") else int(cell)
    # `1E400` is rather an article than a number, and JSON has no word for infinity.
    return number if math.isfinite(number) else cell
