"""German, French, Spanish and Chinese: question words, words for "my", time expressions and word stems.

English has its own files (lexical.py, when.py), and a text counts as English unless more of its words belong to another
language. Time expressions are translated to English and parsed there: "letzte Woche" becomes "last week".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from datetime import date
from functools import cached_property

from rag.lexical import ASKING, words
from rag.shifts import Phrase
from rag.when import phrases

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
UNITS = "day week month year".split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january february march april may june july august september october november december".split()

LEAST_VOTES = 2
"""Words of a language that a text must hold to count as that language; one less if none of its words is English."""

_HAN = re.compile("[\u4e00-\u9fff]")


class Language:
    def __init__(
        self,
        asking: str,
        *,
        mine: str,
        when: str,
        name: str,
        numbers: str,
        units: str,
        weekdays: str,
        months: str,
        times: Mapping[str, str],
        stems: str | None = None,
    ) -> None:
        """
        Args:
            asking: words that occur in every conversation, and those that only phrase a question.
            mine, when, name: patterns of words for the asker, of asking for a time, and of asking for a name.
            numbers, units, weekdays, months: in the order of the English ones; a slash separates alternatives.
            times: patterns of time expressions, and their English form. <unit> in a pattern stands for a word of that
                kind, {unit} for the English one; <day> and <year> are digits.
            stems: Snowball's name of the language; None if words have only one form and no spaces between them.
        """
        self.asking = frozenset(asking.split())
        self._stems, self._edge = stems, r"\b" if stems else ""
        self.mine, self.when, self.name = map(self._read, (mine, when, name))
        self._english = {
            kind: {
                word: english
                for group, english in zip(said.split(), names, strict=True)
                for word in group.split("/")
            }
            for kind, said, names in (
                ("number", numbers, NUMBERS), ("unit", units, UNITS), ("weekday", weekdays, WEEKDAYS),
                ("month", months, MONTHS),
            )
        }  # fmt: skip
        self._times = [(self._read(self._spelt(pattern)), english) for pattern, english in times.items()]
        dated = [word for kind in ("unit", "weekday", "month") for word in self._english[kind] if len(word) > 1]
        self._dated = self._read("|".join([*dated, r"\d{4}"]))
        self._asked = re.compile("|".join(sorted(self.asking, key=len, reverse=True)))

    def phrases(self, text: str, said: date) -> list[Phrase]:
        """Return the time expressions, as `when.phrases` does."""
        found: list[Phrase] = []
        for pattern, english in self._times:
            for match in pattern.finditer(text):
                if any(phrase.start < match.end() and match.start() < phrase.end for phrase in found):
                    continue
                groups = {
                    kind: self._english.get(kind, {}).get(word.lower(), word)
                    for kind, word in match.groupdict().items()
                }
                read = phrases(english.format(**groups), said)
                found.extend(Phrase(match.start(), match.end(), each.span) for each in read)
        return sorted(found, key=lambda phrase: phrase.start)

    def holds_time(self, text: str) -> bool:
        return bool(self._dated.search(text)) or any(pattern.search(text) for pattern, _ in self._times)

    def telling(self, text: str, names: Container[str]) -> list[str]:
        """Return the question's words that carry meaning: no question words and no speakers' names."""
        if not self._stems:
            text = self._asked.sub(" ", text)
        return [word for word in words(text) if word not in self.asking and word not in names]

    @cached_property
    def stem(self) -> Callable[[str], str] | None:
        """The stemmer for a word, by Snowball (Porter, "Snowball: A language for stemming algorithms", 2001)."""
        if self._stems is None:
            return None
        from snowballstemmer import stemmer  # imported only when needed

        stem: Callable[[str], str] = stemmer(self._stems).stemWord
        return stem

    def _spelt(self, pattern: str) -> str:
        for kind, english in self._english.items():
            choices = "|".join(sorted(english, key=len, reverse=True))
            pattern = pattern.replace(f"<{kind}>", f"(?P<{kind}>{choices})")
        return pattern.replace("<day>", r"(?P<day>\d{1,2})").replace("<year>", r"(?P<year>\d{4})")

    def _read(self, pattern: str) -> re.Pattern[str]:
        return re.compile(f"{self._edge}(?:{pattern}){self._edge}", re.IGNORECASE)


def likely(text: str) -> list[Language]:
    """Return the languages that a text may be in, apart from English: those with the most words of their own in it."""
    if _HAN.search(text):
        return [CHINESE]
    votes, english = _votes(text)
    most = max(votes)
    if not most or most < english:
        return []
    return [language for language, vote in zip(SPELT, votes, strict=True) if vote == most]


def language_of(text: str) -> Language | None:
    """Return the text's language; None means English or an unknown language."""
    if len(_HAN.findall(text)) >= 2:
        return CHINESE
    votes, english = _votes(text)
    most = max(votes)
    return SPELT[votes.index(most)] if most > english and most >= LEAST_VOTES - (not english) else None


def _votes(text: str) -> tuple[list[int], int]:
    """Return how many of the text's words belong to each language of SPELT, and how many to English."""
    said = words(text)
    return [sum(map(language.asking.__contains__, said)) for language in SPELT], sum(map(ASKING.__contains__, said))


GERMAN = Language(
    "der die das den dem des ein eine einen einem einer eines und oder aber ist sind war waren bin bist hat habe "
    "hatte haben ich du er sie es wir ihr mich mir dich dir ihn ihm uns euch mein meine meinen meinem meiner "
    "meines dein deine sein seine ihre unser nicht kein keine in im an am auf mit von zu zum zur für bei nach aus "
    "um über unter vor wie was wer wen wem wo wann warum welche welcher welches wohin woher heißt heiße gesagt "
    "erzählt noch schon denn auch so mal weißt kannst hast wurde werde wird",
    mine=r"ich|mich|mir|mein\w*",
    when=r"wann|seit wann|wie lange|an welchem tag|in welchem (?:monat|jahr)",
    name=r"wer|wem|wen|wessen|wo|wohin|woher|wie heißt|welche\w? (?:stadt|land|buch|film|lied)",
    times={
        r"vorgestern": "two days ago",
        r"gestern": "yesterday",
        r"heute": "today",
        r"übermorgen": "in two days",
        r"vor <number> <unit>": "{number} {unit}s ago",
        r"(?:letzte[nrs]?|vorige[nrs]?) <unit>": "last {unit}",
        r"nächste[nrs]? <unit>": "next {unit}",
        r"(?:am )?letzten <weekday>": "last {weekday}",
        r"am <weekday>": "on {weekday}",
        r"<day>\. <month> <year>": "{month} {day}, {year}",
        r"<day>\. <month>": "{month} {day}",
        r"(?:im|letzten) <month>": "in {month}",
    },
    numbers="einem/einer/eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    units="tagen/tag/tage wochen/woche monaten/monat/monate jahren/jahr/jahre",
    weekdays="montag dienstag mittwoch donnerstag freitag samstag/sonnabend sonntag",
    months="januar/jänner februar märz april mai juni juli august september oktober november dezember",
    stems="german",
)
FRENCH = Language(
    "le la les l un une des du de d et ou mais est sont était suis es a ai as ont avait je j tu il elle on nous "
    "vous ils elles me m te t se s mon ma mes ton ta tes son sa ses notre nos leur leurs ne n pas à au aux en "
    "dans sur avec pour par chez ce cet cette ces que qu qui quoi quel quelle quels quelles où quand comment "
    "pourquoi combien appelle dit est-ce y c plus déjà encore moi",
    mine=r"je|j['’]\w+|me|moi|mon|ma|mes",
    when=r"quand|depuis quand|depuis combien de temps|quel jour|quel mois|en quelle année",
    name=r"qui|à qui|où|comment s['’]appell\w+|quel(?:le)? (?:ville|pays|livre|film|chanson)",
    times={
        r"avant-hier": "two days ago",
        r"hier": "yesterday",
        r"aujourd['’]hui": "today",
        r"après-demain": "in two days",
        r"demain": "tomorrow",
        r"il y a <number> <unit>": "{number} {unit}s ago",
        r"(?:la|le|l['’]) ?<unit> (?:derni(?:er|ère)|passée?)": "last {unit}",
        r"(?:la|le|l['’]) ?<unit> prochaine?": "next {unit}",
        r"<weekday> dernier": "last {weekday}",
        r"(?:le )?<weekday>": "on {weekday}",
        r"<day>(?:er)? <month> <year>": "{month} {day}, {year}",
        r"<day>(?:er)? <month>": "{month} {day}",
        r"(?:en|au mois de) <month>": "in {month}",
    },
    numbers="un/une deux trois quatre cinq six sept huit neuf dix onze douze",
    units="jour/jours semaine/semaines mois an/ans/année/années",
    weekdays="lundi mardi mercredi jeudi vendredi samedi dimanche",
    months="janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    stems="french",
)
SPANISH = Language(
    "el la los las un una unos unas y o pero es son era soy eres ha he has han había yo tú él ella nosotros ellos "
    "ellas me te se mi mis tu tus su sus nuestro nuestra no en a al de del con por para sobre qué que quién quien "
    "quiénes cuál cuándo cuando dónde donde cómo como cuánto cuánta cuántos cuántas llama llamo dije está estoy "
    "estaba fue ya más le lo muy tengo tiene este esta ahora",
    mine=r"yo|me|mí|mi|mis|conmigo",
    when=r"cuándo|desde cuándo|cuánto tiempo|qué día|en qué (?:mes|año)",
    name=r"quién|quiénes|dónde|adónde|cómo se llaman?|qué (?:ciudad|país|libro|película|canción)",
    times={
        r"anteayer|antes de ayer": "two days ago",
        r"ayer": "yesterday",
        r"hoy": "today",
        r"pasado mañana": "in two days",
        r"hace <number> <unit>": "{number} {unit}s ago",
        r"(?:la|el) <unit> pasad[oa]": "last {unit}",
        r"(?:la|el) próxim[oa] <unit>": "next {unit}",
        r"(?:la|el) <unit> que viene": "next {unit}",
        r"(?:el )?<weekday> pasado": "last {weekday}",
        r"el <weekday>": "on {weekday}",
        r"<day> de <month> del? <year>": "{month} {day}, {year}",
        r"<day> de <month>": "{month} {day}",
        r"en <month>": "in {month}",
    },
    numbers="un/una dos tres cuatro cinco seis siete ocho nueve diez once doce",
    units="día/días semana/semanas mes/meses año/años",
    weekdays="lunes martes miércoles jueves viernes sábado domingo",
    months="enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    stems="spanish",
)
CHINESE = Language(
    "我 你 您 他 她 它 们 自己 的 了 吗 呢 吧 是 在 什么时候 什么 何时 谁 哪里 哪儿 哪些 哪个 哪天 哪 怎么 怎样 "
    "为什么 为何 多少 多久 说过 告诉 叫 名字 记得",
    mine=r"我",
    when=r"什么时候|何时|哪天|几号|几月|哪一年|多久",
    name=r"谁|哪里|哪儿|叫什么|什么名字|哪个(?:城市|国家)",
    times={
        r"前天": "two days ago",
        r"昨天": "yesterday",
        r"今天": "today",
        r"明天": "tomorrow",
        r"后天": "in two days",
        r"<number>个?<unit>(?:以)?前": "{number} {unit}s ago",
        r"上个?(?:周|星期|礼拜)<weekday>": "last {weekday}",
        r"上个?<unit>": "last {unit}",
        r"去年": "last year",
        r"明年": "next year",
        r"下个?<unit>": "next {unit}",
        r"(?:周|星期|礼拜)<weekday>": "on {weekday}",
        r"<year>年<month><day>[日号]": "{month} {day}, {year}",
        r"<month><day>[日号]": "{month} {day}",
        r"<year>年<month>": "{month} {year}",
        r"<month>": "in {month}",
    },
    numbers="一 两/二 三 四 五 六 七 八 九 十 十一 十二",
    units="天 周/星期 月 年",
    weekdays="一 二 三 四 五 六 日/天",
    months="一月/1月 二月/2月 三月/3月 四月/4月 五月/5月 六月/6月 七月/7月 八月/8月 九月/9月 十月/10月 十一月/11月 "
    "十二月/12月",
)

SPELT = (GERMAN, FRENCH, SPANISH)
