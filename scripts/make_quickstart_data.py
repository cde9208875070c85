#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the data files of ``tunesmith quickstart``: a small support-desk data set.

Every sentence below was written for this project. The output is a pure function
of this file (choices come from SHA-256, not from ``random``), so running it again
gives identical bytes:

    python scripts/make_quickstart_data.py           # write the two files
    python scripts/make_quickstart_data.py --check   # exit 1 if they would change

Four skills, each a question about one short ticket with one exact answer:

* ``queue``: which of four queues the ticket belongs to;
* ``order``: the order number, copied as written;
* ``date``:  the date in the ticket as YYYY-MM-DD;
* ``city``:  the destination city.

Split rule: a row is held out when ``int(sha256(prompt).hexdigest(), 16) % 6 == 0``,
where ``prompt`` is the user message in UTF-8. Each ticket sentence (``queue``), order
number, date and destination city is the answer or the subject of one row only, so
what is asked about a held-out row is never seen in training.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

OUT_DIR = Path(__file__).resolve().parent.parent / "src" / "tunesmith" / "quickstart_data"
HELD_OUT_MODULUS = 6

ASK = {
    "queue": [
        "Which queue should get this ticket: billing, delivery, technical or account? "
        "Reply with one word.",
    ],
    "order": [
        "What is the order number in this ticket? Reply with the number only.",
    ],
    "date": [
        "Which date does this ticket give? Reply with YYYY-MM-DD only.",
    ],
    "city": [
        "Which city should the parcel go to? Reply with the city only.",
    ],
}

QUEUE = {
    "billing": [
        "I was charged twice for the same month.",
        "My invoice shows a fee that nobody told me about.",
        "Can you send me a receipt for last week's payment?",
        "The card payment failed but the money left my bank.",
        "Why did my monthly price go up by four pounds?",
        "The VAT number on my invoice is wrong.",
        "I need a copy of every invoice from last year.",
        "You took a payment after I cancelled my plan.",
        "The discount code was not taken off my bill.",
        "I paid by bank transfer and it still says unpaid.",
        "Please change the card you charge each month.",
        "My statement lists a charge I do not recognise.",
        "The total on the bill does not match the price list.",
        "Our accountant needs the company name on the invoice.",
        "I was billed in dollars instead of euros.",
        "Could I pay this invoice in two instalments?",
        "There is a late fee on my bill although I paid on time.",
        "My direct debit was taken three days early.",
        "The tax on this receipt looks too high to me.",
        "You charged my old card by mistake.",
    ],
    "delivery": [
        "My parcel has been stuck at the depot for a week.",
        "The courier left the box at the wrong house.",
        "When will my package arrive?",
        "Tracking says delivered but nothing is here.",
        "Can the driver leave the parcel with a neighbour?",
        "The van came while I was out, please try again tomorrow.",
        "My shipment is late and I need it by Friday.",
        "The tracking link has not moved since Monday.",
        "Only one of the two boxes has turned up.",
        "Please hold my parcel until I am back from holiday.",
        "The courier could not find our building.",
        "I gave the wrong street for my shipment, can you reroute it?",
        "Has my package left the warehouse yet?",
        "The parcel was left out in the rain by the driver.",
        "Nobody rang the bell and the driver just drove off.",
        "My parcel went to the old address.",
        "Can I choose a morning slot for the courier?",
        "The shipping estimate keeps moving back a day.",
        "The depot says they never received my package.",
        "How long does shipping to an island take?",
    ],
    "account": [
        "I forgot my password and the reset mail never comes.",
        "Please change the e-mail address on my profile.",
        "I cannot log in since I got a new phone number.",
        "How do I delete my profile and all my data?",
        "My account has been locked after three attempts.",
        "I want to change my user name.",
        "Someone else has logged in to my profile.",
        "Please merge my two accounts into one.",
        "How do I turn on two-step login?",
        "My married name should be on my profile now.",
        "The login code goes to my old phone.",
        "Can I share my login with my partner?",
        "I signed up with the wrong e-mail address.",
        "Please close my account at the end of the month.",
        "I never got the mail to confirm my new account.",
        "How can I see who has access to our team account?",
        "My password is right but the sign-in page rejects it.",
        "Please remove my old phone number from my profile.",
        "I want to stop the newsletter for my profile.",
        "A colleague left, please remove her login.",
    ],
    "technical": [
        "The app crashes every time I open the camera.",
        "The screen stays black after the update.",
        "My speaker will not pair with Bluetooth.",
        "The website shows error 500 when I search.",
        "The printer driver does not install on my laptop.",
        "Video freezes after ten seconds in the app.",
        "The device keeps losing the Wi-Fi signal.",
        "The battery drains in an hour since the new firmware.",
        "Uploading a photo stops at ninety percent.",
        "The app is very slow on my tablet.",
        "The sync button does nothing when I press it.",
        "My thermostat shows the wrong temperature after a reset.",
        "The page will not load in my browser.",
        "I get an error message when I export a file.",
        "The microphone makes a buzzing noise in calls.",
        "The software asks to restart again and again.",
        "Push alerts stopped working on my phone.",
        "The map in the app is blank.",
        "The USB port does not detect the drive.",
        "The latest version will not start on my computer.",
    ],
}

ORDER_TICKETS = [
    "Order {o} has not arrived yet.",
    "Hello, I am writing about order {o}, which came damaged.",
    "Please cancel {o}, I ordered it by mistake.",
    "My order number is {o} and my phone is 555 0{p}.",
    "You can find it under {o}. I ordered {n} lamps but got one.",
    "Where is {o}? I paid {n} days ago.",
    "Could you add a gift note to {o}? Thanks, {w}.",
    "I bought {n} chairs with order {o} and one is scratched.",
    "{w} here. Invoice {p} belongs to order {o}, right?",
    "The box marked {o} was empty when it came.",
    "I want to change the colour for order {o} to blue.",
    "It has been {n} days. The order is {o}.",
]

DATE_TICKETS = [
    "Please deliver the sofa on {d}.",
    "I bought the drill on {d} and it has stopped working.",
    "We are away until {d}, so hold the parcel.",
    "My plan ends on {d}, please do not renew it.",
    "Can the engineer come on {d}? I am at home all day.",
    "The invoice was sent on {d} but I never saw it.",
    "Hello, {w} here. I returned the coat on {d}.",
    "We need {n} chairs by {d} at the latest.",
    "I was charged on {d} for something I never ordered.",
    "Order {p} was promised for {d}.",
]

CITY_TICKETS = [
    "We moved from {x} to {c}, please send the order there.",
    "Please ship it to my sister in {c}, not to me in {x}.",
    "Send the {n} boxes to our office in {c}.",
    "I live in {x} but the gift is for a friend in {c}.",
    "The label says {x}, but it must go to {c}.",
    "Hello, {w} here. Could you deliver to {c} instead of {x}?",
    "Our new shop is in {c}, so deliver it there please.",
    "My flat in {x} is sold. Post the parcel to {c}.",
]

DESTINATIONS = [
    "Lisbon",
    "Oslo",
    "Madrid",
    "Vienna",
    "Dublin",
    "Prague",
    "Warsaw",
    "Athens",
    "Helsinki",
    "Budapest",
    "Toronto",
    "Chicago",
    "Boston",
    "Seattle",
    "Denver",
    "Nairobi",
    "Cairo",
    "Lagos",
    "Accra",
    "Tunis",
    "Delhi",
    "Mumbai",
    "Tokyo",
    "Osaka",
    "Seoul",
    "Bangkok",
    "Manila",
    "Jakarta",
    "Sydney",
    "Perth",
    "Auckland",
    "Lima",
    "Bogota",
    "Quito",
    "Santiago",
    "Havana",
    "Glasgow",
    "Leeds",
    "Bristol",
    "Cardiff",
    "Lyon",
    "Nice",
    "Hamburg",
    "Munich",
    "Milan",
    "Turin",
    "Seville",
    "Porto",
]
ORIGINS = [
    "Paris",
    "London",
    "Berlin",
    "Rome",
    "Dallas",
    "Miami",
    "Geneva",
    "Zurich",
    "Bergen",
    "Malmo",
    "Utrecht",
    "Ghent",
]
WRITERS = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Elif",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kemal",
    "Laura",
]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

ORDERS = 60
DATES = 72


def digest(text: str) -> int:
    return int(hashlib.sha256(text.encode("utf-8")).hexdigest(), 16)


def pick(items, *key):
    """One of ``items``, fixed by ``key``."""
    return items[digest("|".join(map(str, key))) % len(items)]


def number(low: int, high: int, *key) -> int:
    return low + digest("|".join(map(str, key))) % (high - low + 1)


def held_out(prompt: str) -> bool:
    return digest(prompt) % HELD_OUT_MODULUS == 0


def filled(template: str, key: str, **values: str) -> str:
    return template.format(
        p=number(1000, 9999, "p", key),
        n=number(2, 12, "n", key),
        w=pick(WRITERS, "w", key),
        x=pick(ORIGINS, "x", key),
        **values,
    )


def order_number(i: int) -> str:
    letters = "ABCDEFGHKLMNPRSTVWXZ"
    a, b = pick(letters, "a", i), pick(letters, "b", i)
    digits = str(number(10000, 99999, "digits", i))
    return (
        f"{a}{b}-{digits}",
        f"{a}{digits}",
        f"{digits[:3]}-{number(1000, 9999, 'tail', i)}",
        f"{a}{b}{digits[:4]}",
    )[i % 4]


def ordinal(day: int) -> str:
    suffix = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def written_date(year: int, month: int, day: int, form: int) -> str:
    name = MONTHS[month - 1]
    return (
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"the {ordinal(day)} of {name} {year}",
        f"{name[:3]} {ordinal(day)}, {year}",
    )[form]


def tickets():
    """(skill, ticket, answer) for every row, in a fixed order."""
    for label, sentences in QUEUE.items():
        for sentence in sentences:
            yield "queue", sentence, label
    for i in range(ORDERS):
        answer = order_number(i)
        yield "order", filled(ORDER_TICKETS[i % len(ORDER_TICKETS)], f"order{i}", o=answer), answer
    for i in range(DATES):
        year, month = number(2023, 2027, "y", i), 1 + i % 12
        day = i // 12 * 5 + number(1, 3, "d", i)  # no date twice, none past the 28th
        text = written_date(year, month, day, pick((0, 1, 2, 3), "form", i))
        ticket = filled(pick(DATE_TICKETS, "date", i), f"date{i}", d=text)
        yield "date", ticket, f"{year:04d}-{month:02d}-{day:02d}"
    for i, city in enumerate(DESTINATIONS):
        yield "city", filled(CITY_TICKETS[i % len(CITY_TICKETS)], f"city{i}", c=city), city


def rows():
    seen_prompts, seen_answers = set(), set()
    for skill, ticket, answer in tickets():
        prompt = f"{pick(ASK[skill], 'ask', ticket)}\n\nTicket: {ticket}"
        assert prompt not in seen_prompts, prompt
        seen_prompts.add(prompt)
        if skill != "queue":
            assert answer not in seen_answers, answer
            assert ticket.count(answer) == (skill != "date"), ticket
            seen_answers.add(answer)
        yield {
            "skill": skill,
            "messages": [
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": answer},
            ],
        }


def files() -> dict[str, str]:
    parts: dict[str, list] = {"support_desk_train.jsonl": [], "support_desk_heldout.jsonl": []}
    for row in rows():
        prompt = row["messages"][0]["content"]
        name = "support_desk_heldout.jsonl" if held_out(prompt) else "support_desk_train.jsonl"
        parts[name].append(row)
    for part in parts.values():  # mixed skills, in a fixed order
        part.sort(key=lambda row: digest("order of rows|" + row["messages"][0]["content"]))
    return {
        name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        for name, part in parts.items()
    }


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare with the files instead of writing"
    )
    parser.add_argument("--out", type=Path, default=OUT_DIR, help="folder of the data files")
    args = parser.parse_args(argv)
    changed = []
    for name, text in files().items():
        path = args.out / name
        data = text.encode("utf-8")
        if args.check:
            if not path.is_file() or path.read_bytes() != data:
                changed.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"{name}: {text.count(chr(10))} rows, {len(data)} bytes")
    if changed:
        print(
            "not what scripts/make_quickstart_data.py writes: " + ", ".join(changed),
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
