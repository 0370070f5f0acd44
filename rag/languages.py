"""Questions in German, French, Spanish and Chinese: which words only ask, who "my" is, and which days are meant.

English has files of its own (lexical.py, when.py), and a question is taken for English unless more of its words are
another language's. Times are put into English and read there, so that "letzte Woche" is what "last week" is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from rag.lexical import ASKING, words
from rag.when import Phrase, phrases

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
UNITS = "day week month year".split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january february march april may june july august september october november december".split()

LEAST_VOTES = 2
"""Words of a language that a question must hold to be in it; one less where nothing in it is English."""

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
        spaced: bool = True,
    ) -> None:
        """
        Args:
            asking: words of which every conversation is full, and those that say how it is asked.
            mine, when, name: what means who asks; what asks for a time; what asks for a name. Patterns.
            numbers, units, weekdays, months: in the order of the English ones; several words for one with a slash.
            times: patterns of what names a time, and how English puts it. <unit> stands for a word of that kind, and
                {unit} for the English one.
            spaced: whether there are spaces between words.
        """
        self.asking = frozenset(asking.split())
        self._edge = r"\b" if spaced else ""
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

    def phrases(self, text: str, said: date) -> list[Phrase]:
        """As `when.phrases` has them."""
        found: list[Phrase] = []
        for pattern, english in self._times:
            for match in pattern.finditer(text):
                if any(phrase.start < match.end() and match.start() < phrase.end for phrase in found):
                    continue
                groups = {kind: self._english[kind][word.lower()] for kind, word in match.groupdict().items()}
                read = phrases(english.format(**groups), said)
                found.extend(Phrase(match.start(), match.end(), each.span) for each in read)
        return sorted(found, key=lambda phrase: phrase.start)

    def _spelt(self, pattern: str) -> str:
        for kind, english in self._english.items():
            choices = "|".join(sorted(english, key=len, reverse=True))
            pattern = pattern.replace(f"<{kind}>", f"(?P<{kind}>{choices})")
        return pattern

    def _read(self, pattern: str) -> re.Pattern[str]:
        return re.compile(f"{self._edge}(?:{pattern}){self._edge}", re.IGNORECASE)


def language_of(text: str) -> Language | None:
    """None is English, or what nobody here knows."""
    if len(_HAN.findall(text)) >= 2:
        return CHINESE
    said = words(text)
    votes = [sum(word in language.asking for word in said) for language in SPELT]
    most, english = max(votes), sum(word in ASKING for word in said)
    return SPELT[votes.index(most)] if most > english and most >= LEAST_VOTES - (not english) else None


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
        r"(?:im|letzten) <month>": "in {month}",
    },
    numbers="einem/einer/eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    units="tagen/tag/tage wochen/woche monaten/monat/monate jahren/jahr/jahre",
    weekdays="montag dienstag mittwoch donnerstag freitag samstag/sonnabend sonntag",
    months="januar/jänner februar märz april mai juni juli august september oktober november dezember",
)
FRENCH = Language(
    "le la les l un une des du de d et ou mais est sont était suis es a ai as ont avait je j tu il elle on nous "
    "vous ils elles me m te t se s mon ma mes ton ta tes son sa ses notre nos leur leurs ne n pas à au aux en "
    "dans sur avec pour par chez ce cet cette ces que qu qui quoi quel quelle quels quelles où quand comment "
    "pourquoi combien appelle dit est-ce y c plus déjà encore",
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
        r"(?:en|au mois de) <month>": "in {month}",
    },
    numbers="un/une deux trois quatre cinq six sept huit neuf dix onze douze",
    units="jour/jours semaine/semaines mois an/ans/année/années",
    weekdays="lundi mardi mercredi jeudi vendredi samedi dimanche",
    months="janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
)
SPANISH = Language(
    "el la los las un una unos unas y o pero es son era soy eres ha he has han había yo tú él ella nosotros ellos "
    "ellas me te se mi mis tu tus su sus nuestro nuestra no en a al de del con por para sobre qué que quién quien "
    "quiénes cuál cuándo cuando dónde donde cómo como cuánto cuánta cuántos cuántas llama llamo dije está estoy "
    "estaba fue ya más le lo muy tengo tiene este esta",
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
        r"en <month>": "in {month}",
    },
    numbers="un/una dos tres cuatro cinco seis siete ocho nueve diez once doce",
    units="día/días semana/semanas mes/meses año/años",
    weekdays="lunes martes miércoles jueves viernes sábado domingo",
    months="enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
)
CHINESE = Language(
    "",
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
        r"<month>": "in {month}",
    },
    numbers="一 两/二 三 四 五 六 七 八 九 十 十一 十二",
    units="天 周/星期 月 年",
    weekdays="一 二 三 四 五 六 日/天",
    months="一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月",
    spaced=False,
)

SPELT = (GERMAN, FRENCH, SPANISH)
