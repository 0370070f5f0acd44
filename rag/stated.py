"""What is claimed or asked in German, French, Spanish or Chinese, as the plain English that rag/grammar.py reads.

"Ich wohne nicht mehr in Oslo" becomes "I no longer live in Oslo". A clause that no pattern fits is left out, so that it
claims nothing. Only the commonest facts that replace each other are known: names, homes, work, phone numbers, what
somebody's relatives and pets are called, where they live, and that they died.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rag.languages import CHINESE, FRENCH, GERMAN, SPANISH, likely

LONG = 400
"""Characters of a sentence that are read; longer ones are hardly spoken, and would take the patterns long."""
_UNREAL = r"(?:wenn|falls|ob|si|quand|lorsque|cuando|como)\b|如果|要是|假如|当"
"""Clauses that begin like this state no fact."""
_SENTENCE = re.compile(r"[^.!?;\n。！？；]+[.!?;。！？；]?")


@dataclass(frozen=True)
class Statements:
    """One language's ways to say it, and the English for each. In a pattern, <adv> stands for adverbs, <x> for the
    value and <y> for a relative or a pet; in the English form, {now} is "now " if an adverb says that it is new."""

    now: str
    adverbs: str
    clauses: str
    """Where a sentence is split: commas, and conjunctions before a new subject."""
    told: Mapping[str, str]
    asked: Mapping[str, str]
    spaced: bool = True

    def english(self, text: str) -> str:
        """Return English sentences for the clauses that are understood; empty if none is."""
        found = []
        for sentence in _SENTENCE.findall(text.replace("’", "'")):
            asks = sentence.endswith(("?", "？"))
            for clause in re.split(self.clauses, sentence[:LONG].strip(' .!?;。！？；"“”¿¡'), flags=re.IGNORECASE):
                for pattern, english in self._questions if asks else self._statements:
                    if match := pattern.fullmatch(clause.strip(" ,，")):
                        said = {name: value or "" for name, value in match.groupdict().items()}
                        said["now"] = "now " if said["first"] or said.get("now") else ""
                        found.append(english.format(**said) + ".?"[asks])
                        break
        return " ".join(found)

    @cached_property
    def _statements(self) -> list[tuple[re.Pattern[str], str]]:
        return [(self._read(pattern), english) for pattern, english in self.told.items()]

    @cached_property
    def _questions(self) -> list[tuple[re.Pattern[str], str]]:
        return [(self._read(pattern), english) for pattern, english in self.asked.items()]

    def _read(self, pattern: str) -> re.Pattern[str]:
        gap = " " if self.spaced else ""
        pattern = pattern.replace("<adv>", rf"(?:(?:(?P<now>{self.now})|{self.adverbs}){gap})*")
        pattern = pattern.replace("<x>", r"(?P<x>\S.*?)")
        pattern = pattern.replace(
            "<y>", r"(?P<y>[\w-]+(?: (?-i:[A-ZÄÖÜÉÁÍÓÚ])\w+)?)" if self.spaced else r"(?P<y>\w{1,4}?)"
        )
        start = rf"(?:(?P<first>{self.now}) |.*\s)?" if self.spaced else rf"(?:(?P<first>{self.now})|.*?)"
        return re.compile(rf"(?!{_UNREAL}){start}(?:{pattern})(?:{gap}(?:{self.now}|{self.adverbs}))*", re.IGNORECASE)


def in_english(text: str) -> str:
    """Return English sentences for what a text in another language claims or asks; empty if nothing is understood."""
    return next((english for language in likely(text) if (english := STATEMENTS[language].english(text))), "")


_GERMAN = Statements(
    now="jetzt|nun|inzwischen|mittlerweile|ab (?:jetzt|sofort)|neuerdings",
    adverbs=r"seit \w+(?: \w+)?|letzte\w? \w+|im \w+|vor \w+ \w+|mit \w+ \w+|gestern|heute|gerade|wieder|endlich|auch|"
    r"schon|bitte|leider",
    clauses=r",\s*|\s+(?:und|aber|weil|denn) (?=(?:ich|wir|meine?|jetzt|nun)\b)",
    told={
        r"(?:nennt?|ruft?) mich <adv><x>": "Call me {x}",
        r"(?:ich heiße|mein name ist) <adv><x>": "My name is {x}",
        r"(?:ich wohne|ich lebe|wir wohnen|wir leben) <adv>nicht mehr in <x>": "I no longer live in {x}",
        r"(?:ich wohne|ich lebe|wir wohnen|wir leben|(?:jetzt|nun) (?:wohne|lebe) ich) <adv>in <x>": "I live in {x}",
        r"(?:ich bin|wir sind) <adv>(?:von \w+ )?nach <x> (?:um)?gezogen": "I moved to {x}",
        r"ich bin <adv>aus <x> weggezogen": "I moved away from {x}",
        r"(?:ich arbeite|(?:jetzt|nun) arbeite ich) <adv>als <x>": "I {now}work as {x}",
        r"ich arbeite <adv>(?:bei|für|beim) <x>": "I {now}work for {x}",
        r"ich habe <adv>(?:eine neue stelle|einen neuen job) als <x>": "I have a new job as {x}",
        r"ich habe <adv>(?:eine neue stelle|einen neuen job|eine stelle) (?:bei|beim) <x>": "I have a new job at {x}",
        r"ich (?:habe <adv>(?:meine stelle|meinen job|meine arbeit) .*?(?:gekündigt|verloren|aufgegeben)|habe gekündigt"
        r"|wurde entlassen)": "I quit my job",
        r"meine?r? <y> (?:wohnt|lebt) <adv>in <x>": "My {y} lives in {x}",
        r"meine?r? <y> ist <adv>nach <x> (?:um)?gezogen": "My {y} moved to {x}",
        r"(?:meine?r?|unsere?r?) <y> (?:heißt|ist) <adv>(?P<gone>gestorben|tot|verstorben|weggelaufen)": "My {y} died",
        r"(?:meine?|unsere?) <y> heißt <adv><x>": "My {y} is called {x}",
        r"meine (?:neue )?(?:telefon|handy)?nummer ist <adv><x>": "My phone number is {x}",
    },
    asked={
        r"wo (?:wohne|lebe) ich|wo wohnen wir|in welcher (?:stadt|straße) wohne ich": "Where do I live",
        r"wo arbeite ich|als was arbeite ich|was (?:ist mein beruf|mache ich beruflich)": "Where do I work",
        r"wie heiße ich|wie ist mein name|wer bin ich": "What is my name",
        r"wie heißt (?:meine?|unsere?) <y>": "What is my {y} called",
        r"wo wohnt meine? <y>": "Where does my {y} live",
        r"(?:wie|was) (?:lautet|ist) meine (?:telefon|handy)?nummer": "What is my phone number",
    },
)
_FRENCH = Statements(
    now="maintenant|désormais|à présent|dorénavant",
    adverbs=r"depuis \w+(?: \w+)?|le mois dernier|la semaine dernière|en \w+|il y a \w+ \w+|avec \w+ \w+|hier|"
    r"aujourd'hui|enfin|aussi|déjà|bien",
    clauses=r",\s*|\s+(?:et|mais|parce que|car) (?=(?:je|j'|on|nous|mon|ma|mes|maintenant)\b)",
    told={
        r"(?:appelez|appelle|appeler)-moi <adv><x>": "Call me {x}",
        r"(?:je m'appelle|mon (?:pré)?nom est) <adv><x>": "My name is {x}",
        r"(?:je n'habite|je ne vis|on n'habite|nous n'habitons) plus (?:à|en|au) <x>": "I no longer live in {x}",
        r"(?:j'habite|je vis|on habite|nous habitons|nous vivons) <adv>(?:à|en|au) <x>": "I live in {x}",
        r"(?:j'ai|on a|nous avons|je me suis) (?:déménagé|emménagé|installée?) <adv>(?:à|en|au) <x>": "I moved to {x}",
        r"je (?:travaille|suis employée?) <adv>comme <x>": "I {now}work as {x}",
        r"je travaille <adv>(?:chez|pour) <x>": "I {now}work for {x}",
        r"j'ai <adv>(?:trouvé )?un nouveau (?:travail|poste|emploi) comme <x>": "I have a new job as {x}",
        r"j'ai <adv>(?:trouvé )?un nouveau (?:travail|poste|emploi) (?:chez|à) <x>": "I have a new job at {x}",
        r"j'ai (?:quitté|perdu) mon (?:travail|emploi|poste|boulot).*|j'ai démissionné.*": "I quit my job",
        r"m(?:on|a) <y> (?:habite|vit) <adv>(?:à|en|au) <x>": "My {y} lives in {x}",
        r"m(?:on|a) <y> a <adv>déménagé (?:à|en|au) <x>": "My {y} moved to {x}",
        r"(?:mon|ma|notre) <y> (?:est <adv>(?:morte?|décédée?)|a disparu)": "My {y} died",
        r"(?:mon|ma|notre) <y> s'appelle <adv><x>": "My {y} is called {x}",
        r"mon (?:nouveau )?numéro(?: de téléphone)? est <adv>(?:le )?<x>": "My phone number is {x}",
    },
    asked={
        r"où (?:est-ce que j'habite|j'habite|habité-je|vis-je)|dans quelle ville j'habite": "Where do I live",
        r"où (?:est-ce que )?je travaille|quel est mon (?:métier|travail)": "Where do I work",
        r"comment (?:est-ce que )?je m'appelle|quel est mon (?:pré)?nom|qui suis-je": "What is my name",
        r"comment s'appelle (?:mon|ma|notre) <y>": "What is my {y} called",
        r"où habite m(?:on|a) <y>": "Where does my {y} live",
        r"quel est mon numéro(?: de téléphone)?": "What is my phone number",
    },
)
_SPANISH = Statements(
    now="ahora|desde ahora|a partir de ahora",
    adverbs=r"desde \w+(?: \w+)?|el mes pasado|la semana pasada|en \w+|hace \w+ \w+|con \w+ \w+|ayer|hoy|por fin|"
    r"también|ya|bien",
    clauses=r",\s*|\s+(?:y|pero|porque) (?=(?:yo|nos|me|mi|vivo|trabajo|ahora)\b)",
    told={
        r"(?:llámame|llámenme|llamadme) <adv><x>": "Call me {x}",
        r"(?:me llamo|mi nombre es) <adv><x>": "My name is {x}",
        r"ya no (?:vivo|vivimos) en <x>": "I no longer live in {x}",
        r"(?:vivo|vivimos) <adv>en <x>": "I live in {x}",
        r"(?:me he mudado|me mudé|nos hemos mudado|nos mudamos) <adv>a <x>": "I moved to {x}",
        r"trabajo <adv>(?:de|como) <x>": "I {now}work as {x}",
        r"trabajo <adv>(?:en|para) (?!casa)<x>": "I {now}work for {x}",
        r"tengo <adv>(?:un )?nuevo (?:trabajo|empleo|puesto) (?:de|como) <x>": "I have a new job as {x}",
        r"tengo <adv>(?:un )?nuevo (?:trabajo|empleo|puesto) en <x>": "I have a new job at {x}",
        r"(?:he dejado|dejé|he perdido|perdí) (?:mi|el) (?:trabajo|empleo).*|me han despedido.*": "I quit my job",
        r"mi <y> vive <adv>en <x>": "My {y} lives in {x}",
        r"mi <y> se (?:ha mudado|mudó) <adv>a <x>": "My {y} moved to {x}",
        r"(?:mi|nuestr[oa]) <y> (?:ha muerto|murió|falleció|se ha muerto|se murió).*": "My {y} died",
        r"(?:mi|nuestr[oa]) <y> se llama <adv><x>": "My {y} is called {x}",
        r"mi (?:nuevo )?(?:número(?: de teléfono)?|teléfono) (?:nuevo )?es <adv>(?:el )?<x>": "My phone number is {x}",
    },
    asked={
        r"(?:dónde vivo|dónde vivimos|en qué ciudad vivo)": "Where do I live",
        r"(?:dónde|de qué|en qué) trabajo|cuál es mi (?:trabajo|profesión)": "Where do I work",
        r"cómo me llamo|cuál es mi nombre|quién soy": "What is my name",
        r"cómo se llama (?:mi|nuestr[oa]) <y>": "What is my {y} called",
        r"dónde vive mi <y>": "Where does my {y} live",
        r"cuál es mi (?:número(?: de teléfono)?|teléfono)": "What is my phone number",
    },
)
_CHINESE = Statements(
    now="现在|目前|如今|从现在起|以后",
    adverbs=r"已经|也|还|上个?月|上周|去年|昨天|今天|了|啦|吧|呢|啊|刚刚?|终于|又|就|请|一直",
    clauses=r"[,，、]|(?:而且|但是|因为|所以|然后)",
    told={
        r"(?:我)?<adv>叫我<x>": "Call me {x}",
        r"我<adv>(?:的名字叫|的名字是|叫做|叫)<x>": "My name is {x}",
        r"我们?<adv>不(?:再)?住在?<x>": "I no longer live in {x}",
        r"我们?<adv>住在<x>": "I live in {x}",
        r"我们?<adv>(?:搬家|搬)(?:去|到)了?<x>": "I moved to {x}",
        r"我<adv>在<x>(?:工作|上班|当.+)": "I {now}work for {x}",
        r"我<adv>(?:当|做)(?:一名|一个|个)?<x>": "I {now}work as {x}",
        r"我<adv>(?:换|找到|有)了?(?:一份|份|个)?新工作(?:，)?在<x>": "I have a new job at {x}",
        r"我<adv>(?:辞职|失业|被解雇|被裁|辞掉了?工作)": "I quit my job",
        r"我(?:的)?<y><adv>住在<x>": "My {y} lives in {x}",
        r"我(?:的)?<y><adv>搬(?:去|到)了?<x>": "My {y} moved to {x}",
        r"我(?:们)?(?:的|家的|家)?<y><adv>(?:死|去世|走丢|不在)": "My {y} died",
        r"我(?:们)?(?:的|家的|家)<y><adv>(?:叫做|叫)<x>": "My {y} is called {x}",
        r"我的(?:新)?(?:电话|手机)?号码?<adv>是<x>": "My phone number is {x}",
    },
    asked={
        r"我们?<adv>住在?(?:哪里|哪儿|哪个城市|什么地方)": "Where do I live",
        r"我<adv>在(?:哪里|哪儿)(?:工作|上班)|我(?:做什么工作|的工作是什么)": "Where do I work",
        r"我<adv>叫什么(?:名字)?|我的名字(?:是|叫)什么|我是谁": "What is my name",
        r"我(?:们)?(?:的|家的|家)?<y>叫什么(?:名字)?": "What is my {y} called",
        r"我(?:的)?<y>住在?(?:哪里|哪儿)": "Where does my {y} live",
        r"我的(?:电话|手机)?号码?是(?:多少|什么)": "What is my phone number",
    },
    spaced=False,
)
STATEMENTS = {GERMAN: _GERMAN, FRENCH: _FRENCH, SPANISH: _SPANISH, CHINESE: _CHINESE}
