"""Does a text from outside try to tell a model what to do? A guess by patterns, cheap and always the same; it raises the bar, and is not it.

What it misses runs into the policy all the same, and what it sees too much of costs a question to a person. Measured by
`python -m ops.injection`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.safety.decoding import decoded, hidden, normalised

MOST = 24_000
"""Characters that are read: of a longer text two thirds from its beginning, and the rest from its end."""
LONG = 1_500
"""Characters from which on reading takes long enough to be done in a thread."""
ENOUGH = 2
"""The sum of weights from which on there is a signal."""

_PROMPT = (
    r"(?:i\w{0,2}nstruc|guideline|directive|directiv|rules?\b|polic|system ?-?prompt|prompt|restric|safety|safeguard|regel|richtlini|anweisung"
    r"|istruzion|consigne|regole|reglas|everything (?:above|before|you)|(?:all|everything) (?:above|prior)|the (?:user|task)\b"
    r"|alles, was wir|programming)"
)
_DROP = (
    r"(?:ignore|ignora|ignorez|ignorieren?|ignoriere|disregard|forget|forgot|vergiss|vergessen sie alle|oublie|oubliez|olvida|olvide|dimentica"
    r"|override|bypass|do not follow|don't follow|stop following|supersede|missachte|skip all)"
)
_SHOW = (
    r"(?:reveal|print|show|repeat|output|display|dump|leak|tell me|give me|summari[sz]e|recite|expose|share|include|add|append|what (?:was|is|are|were)"
    r"|verrate?|zeige?|revele|revela|muestra|montre|mostra|rivela|gibst?)"
)
_INNER = (
    r"(?:system ?-?(?:prompt|message|instruct\w*)|(?:initial|hidden|original|operating|internal|secret) (?:prompt|instruct\w*|config\w*)|prompt (?:de |du |del |di )?"
    r"s[iy]st\w+|(?:exact )?instructions you were|words above|(?:instrucciones|istruzioni) d[ei]l? sistema|instructions systeme|systemanweisung\w*"
    r"|context window|written above|hidden prompt|admin (?:pages?|password))"
)
_SEND = r"(?:send|forward|e-?mail|post|upload|leak|transmit|exfiltrate|copy|transfer|share|envoie|envia|invia|sende|schicke)"
_WHERE = r"(?:[\w.+-]{1,64}@[\w-]{1,64}\.\w|https?://|external(?:ly)?\b|iban\b|account [a-z]{2}\d{2}|[a-z]{2}\d{10})"
_GOODS = (
    r"(?:customer|credential|password|api[- ]?keys?|secret|private|confidential|token|database|(?:all|full|entire|every) (?:\w+ )?(?:list|data|e-?mails?|files?|messages?|orders?|records?)"
    r"|conversation|history|contents? of|body of|security code|donnees|clientes|kundendaten)"
)
_YOU = r"(?:ai|a\.i\.|bot|chatbot|assistant|agent|language model|llm|model|gpt|claude|gemini)s?"

_WEIGHTS: tuple[tuple[str, int, str, str], ...] = (
    (
        "override",
        2,
        "ignor forg vergiss vergessen disregard oubli olvid dimentica override bypass follow supersede missachte skip",
        rf"\b{_DROP}\b.{{0,40}}?{_PROMPT}",
    ),
    (
        "override",
        2,
        "new real actual true",
        r"\b(?:your|the) (?:new|real|actual|true) (?:\w+ )?(?:instructions?|task|directive|goal|objective|orders?)\b",
    ),
    (
        "override",
        2,
        "new updated revised",
        r"\b(?:new|updated?|revised) (?:instructions?|directives?|anweisung\w*|instrucciones|istruzioni)\s*:",
    ),
    (
        "override",
        2,
        "neue nouvelle nuev nuov",
        r"\bneue anweisung|\bnouvelles? instruction|\bnuevas? instrucci|\bnuove istruzion",
    ),
    (
        "override",
        2,
        "safety security",
        r"\b(?:safety|security) (?:protocols?|checks?|rules?|guidelines?|filters?)\b.{0,40}?\b(?:disabled|off|not meant|do not apply|don't apply|skip)",
    ),
    ("override", 2, "changed supersedes", r"\b(?:your|the) rules (?:have|were) (?:been )?changed|\bsupersedes? all\b"),
    (
        "override",
        2,
        "skip bypass ignore exempt disregard without",
        r"\b(?:skip|bypass|ignore|exempt from|disregard|without) (?:all |any |the )?(?:safety|usual|content|security|user'?s?) (?:checks?|restrict\w+|polic\w+|confirm\w+|rules?|task|guideline\w*)",
    ),
    (
        "persona",
        2,
        "mode modo do~anything now~dan",
        r"\b(?:developer|debug|god|admin|unrestricted|jailbreak|dan) mode\b|\bmodo (?:desarrollador|sviluppatore)|\bdo anything now\b|\bnow dan\b",
    ),
    (
        "persona",
        2,
        "restri rules filter limits content~polic guidelines regeln richtlinien einschr filtro reglas regole safety",
        r"\b(?:no|without|any|have no|aren't any|keine|ohne|sin|sans|senza) (?:\w+ )?(?:restric\w+|rules|filters?|limits|content polic\w+|guidelines|regeln|richtlinien|einschr\w+|filtro|reglas|regole|restrizioni|safety)\b",
    ),
    (
        "persona",
        2,
        "unrestricted uncensored uneingeschrankt keine no~longer",
        r"\bunrestricted (?:mode|response|assistant|ai)\b|\buncensored\b|\buneingeschrankt|\bkeine (?:regeln|richtlinien)|\bno longer (?:a|an|bound)\b",
    ),
    (
        "persona",
        2,
        "directrices reglas linee regles richtlinien safety",
        r"\b(?:directrices|reglas|linee guida|regles|sicherheitsrichtlinien|safety guidelines) (?:de |di )?\w* ?\w* ?(?:no|non|ne|nicht|hier nicht|were not)\b",
    ),
    (
        "persona",
        1,
        "from~now now~are you~are~now ab~jetzt ab~sofort bist~jetzt desormais ahora ora~sei d'ora",
        r"\b(?:from now on|you are now|ab jetzt|ab sofort|du bist jetzt|desormais|ahora eres|ahora estas|ora sei|d'ora in poi)\b",
    ),
    (
        "turn",
        2,
        "< [ #",
        r"<\|[a-z_]{2,20}\|>|\[/?(?:system|inst|assistant)\]|<</?sys>>|</?(?:system|thinking|information|admin|instructions?)>|(?<!#)#{2,}+ ?+\(?system",
    ),
    (
        "turn",
        2,
        "system assistant developer",
        r"(?:^|\n)[-#=* ]*(?:system|assistant|developer)(?: note| message| update| override| hint| alert)?\s*:|\bsystem (?:note|notice|update|override|alert)\b",
    ),
    (
        "turn",
        2,
        "end~of hinweis systeme sistema breach",
        r"\bend of (?:document|user input|input|context|data|file|message|email)\b|\bsystemhinweis|\bnote systeme|\bnota d(?:el|i) sistema|\bbreach alert\b",
    ),
    (
        "turn",
        2,
        "trace note~to~self grant",
        r"\b(?:reasoning trace|note to self)\b|\bgrant (?:all requests|this user|him|her|me|them)\b.{0,20}",
    ),
    (
        "addressed",
        2,
        "note message instruction hint attention information hinweis",
        rf"\b(?:note|message|instructions?|hint|attention|information|hinweis) (?:to|for|fur) (?:the |any |all |every )?{_YOU}\b",
    ),
    (
        "addressed",
        2,
        "if~you dear attention hey hi",
        rf"\bif you(?:'re| are) an? (?:\w+ )?{_YOU}\b|\b(?:dear|attention:?|hey|hi) (?:the )?(?:ai|assistant|chatbot|llm)\b",
    ),
    (
        "addressed",
        2,
        "ai llm automated language important~message",
        r"\b(?:ai|llm|automated|language) (?:assistant|agent|model|system)s? (?:reading|reviewing|processing|summari[sz]ing|that|who|should|must|will)\b|\bimportant message from me\b",
    ),
    (
        "addressed",
        1,
        "when once before after if~you",
        r"\b(?:when|once|before|after|if) you (?:can |have |will )?(?:read|process|summari|review|answer|reply|respond|solve|complete|see|finish|do that)\w*|\bbefore (?:respond|answer|reply)ing\b",
    ),
    (
        "addressed",
        1,
        "you~ your do~the~following follow~the in~the in~every in~each every~",
        r"\byou (?:must|should|need to|have to|are required to)\b|\bdo the following\b|\byour (?:reply|response|answer|summary|review)\b|\bfollow the instruction|\bin (?:the|every|each|your) (?:summary|reply|answer)|\bevery (?:reply|answer|summary)",
    ),
    (
        "addressed",
        1,
        "append include insert add~ token code doc_id trace_id reference",
        r"\b(?:append|include|insert|add) (?:the|this|that|a) \w+ ?\w* (?:token|code|string|id|identifier|word|phrase|trace_id|doc_id|sentence|line|link)|\b(?:exact|verification|logging|protokoll-?) ?(?:token|code)\b|\b(?:doc_id|trace_id|session reference)\b.{0,60}(?:summar|above)",
    ),
    (
        "leak",
        2,
        "prompt message instruct config above sistema systeme anweisung window",
        rf"\b{_SHOW}\b.{{0,60}}?{_INNER}|{_INNER}.{{0,30}}?\b(?:verbatim|word for word|wortlich|wortwortlich|mot pour mot|palabra por palabra|parola per parola)",
    ),
    (
        "leak",
        2,
        "access internen internal environment database",
        r"\b(?:you can access|alle internen daten|internal config\w*|environment variables|raw customer database)\b",
    ),
    (
        "exfiltration",
        2,
        "@ http external iban account 0 1 2 3 4 5 6 7 8 9",
        rf"\b{_SEND}\w*\b.{{0,120}}?{_GOODS}.{{0,120}}?{_WHERE}|{_GOODS}.{{0,120}}?\b{_SEND}\w*\b.{{0,80}}?{_WHERE}",
    ),
    ("exfiltration", 1, "@ http external iban account 0 1 2 3 4 5 6 7 8 9", rf"\b{_SEND}\w*\b.{{0,80}}?{_WHERE}"),
    (
        "exfiltration",
        2,
        "![",
        r"!\[[^\]\n]{0,80}+\]\(https?://[^)\s?&]{1,300}+[?&][^)\s=]{0,300}+=[^)\s]{0,500}?(?:\{|data|secret|token|prompt|summary|history|\$)",
    ),
    (
        "action",
        2,
        "~call call use invoke run execute trigger",
        r"\b(?:call|use|invoke|run|execute|trigger)\b.{0,20}?\b[a-z]{2,}_[a-z_]{2,}\b.{0,60}?\b(?:to|on|before|with|and)\b",
    ),
    (
        "action",
        2,
        "transfer wire pay send delete remove drop",
        r"\b(?:transfer|wire|pay|send) (?:\$|eur|usd|as much|the money|all (?:the )?(?:money|funds))|\b(?:delete|remove|drop) (?:all|every|the file with id|the five)\b",
    ),
    (
        "action",
        1,
        "todo task action important urgent cleanup integration stop !!!",
        r"\b(?:todo|task|action required|important|urgent|cleanup required|integration hook|stop)\b\s?[:!.]|!!!",
    ),
    (
        "secrecy",
        2,
        "not don't never without no~questions",
        r"\b(?:do not|don't|never|without) (?:tell|mention|inform|telling|informing|notify|asking|ask|reveal this)\w*\b.{0,30}?\b(?:user|human|anyone|me|again|him|her)\b|\bwithout question\b|\bno questions\b",
    ),
    (
        "decode",
        2,
        "decode decrypt translate unscramble deobfuscate",
        r"\b(?:decode|decrypt|translate|unscramble|deobfuscate)\b.{0,80}?\b(?:follow|execute|obey|do (?:exactly )?what|run|perform|instruction)",
    ),
)
"""Name, weight, words of which one stands in every text that the pattern matches (~ for a space), and the pattern."""
_PATTERNS = tuple(
    (name, weight, tuple(word.replace("~", " ") for word in words.split()), re.compile(pattern))
    for name, weight, words, pattern in _WEIGHTS
)


def signals(text: str) -> tuple[str, ...]:
    """What speaks for it, by name and in order; nothing where that is not enough.

    `encoded`: what spoke for it had to be decoded first; `hidden`: it stood in letters that no reader sees.
    """
    if len(text) > MOST:
        text = f"{text[: MOST * 2 // 3]}\n{text[-MOST // 3 :]}"
    found = _seen(normalised(text))
    for how, inner in _inside(text):
        if seen := _seen(normalised(inner)):
            found |= {how, *seen}
    return tuple(sorted(found))


def _inside(text: str) -> Iterator[tuple[str, str]]:
    """The texts within that text, and how they are there."""
    for inner in hidden(text):
        yield "hidden", inner
    for inner in decoded(text):
        yield "encoded", inner


def _seen(text: str) -> set[str]:
    found = [
        (name, weight)
        for name, weight, words, pattern in _PATTERNS
        if any(word in text for word in words) and pattern.search(text)
    ]
    return {name for name, _ in found} if sum(weight for _, weight in found) >= ENOUGH else set()
