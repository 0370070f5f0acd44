"""Questions in other languages: twenty each, what they ask for, whose they are, and which days they mean."""

from __future__ import annotations

from datetime import date

import pytest

from rag.languages import CHINESE, FRENCH, GERMAN, SPANISH, Language, language_of
from rag.lexical import Stemmer
from rag.question import Question

TODAY = date(2026, 11, 30)
"""A Monday."""
LAST_WEEK = date(2026, 11, 23), date(2026, 11, 29)
YESTERDAY = date(2026, 11, 29), date(2026, 11, 29)
LAST_MONTH = date(2026, 10, 1), date(2026, 10, 31)
LAST_YEAR = date(2025, 1, 1), date(2025, 12, 31)
LAST_TUESDAY = date(2026, 11, 24), date(2026, 11, 24)
THE_DAY_BEFORE = date(2026, 11, 28), date(2026, 11, 28)
TWO_WEEKS_AGO = date(2026, 11, 13), date(2026, 11, 19)

Days = tuple[date, date] | None
Asked = tuple[str, str, bool, bool, bool, Days]
"""The question, a word it is looked for by, whether it is the asker's own, wants a time, wants a name, its days."""

QUESTIONS: dict[str, tuple[Language, list[Asked]]] = {
    "German": (GERMAN, [
        ("Wie heißt mein Hund?", "hund", True, False, True, None),
        ("Wo wohne ich?", "wohne", True, False, True, None),
        ("Wann hat meine Schwester Geburtstag?", "geburtstag", True, True, False, None),
        ("Was habe ich gestern gekauft?", "gekauft", True, False, False, YESTERDAY),
        ("Was war letzte Woche beim Zahnarzt?", "zahnarzt", False, False, False, LAST_WEEK),
        ("Wohin bin ich letztes Jahr gereist?", "gereist", True, False, True, LAST_YEAR),
        ("Wer ist mein Chef?", "chef", True, False, True, None),
        ("Was habe ich vorgestern gegessen?", "gegessen", True, False, False, THE_DAY_BEFORE),
        ("Was haben wir vor zwei Wochen gekocht?", "gekocht", False, False, False, TWO_WEEKS_AGO),
        ("Welches Buch lese ich gerade?", "buch", True, False, True, None),
        ("Seit wann spiele ich Klavier?", "klavier", True, True, False, None),
        ("Wie lange arbeite ich schon als Lehrer?", "lehrer", True, True, False, None),
        ("Was trinke ich am liebsten?", "trinke", True, False, False, None),
        ("Warum war ich traurig?", "traurig", True, False, False, None),
        ("Mit wem war ich letzten Dienstag im Kino?", "kino", True, False, True, LAST_TUESDAY),
        ("Was habe ich letzten Monat verloren?", "verloren", True, False, False, LAST_MONTH),
        ("Welche Farbe hat mein Auto?", "farbe", True, False, False, None),
        ("Wie heißen meine Kinder?", "kinder", True, False, False, None),
        ("Was habe ich über den Garten erzählt?", "garten", True, False, False, None),
        ("Wo arbeitet meine Mutter?", "mutter", True, False, True, None),
    ]),
    "French": (FRENCH, [
        ("Comment s'appelle mon chien ?", "chien", True, False, True, None),
        ("Où est-ce que j'habite ?", "habite", True, False, True, None),
        ("Quand est l'anniversaire de ma sœur ?", "anniversaire", True, True, False, None),
        ("Qu'est-ce que j'ai acheté hier ?", "acheté", True, False, False, YESTERDAY),
        ("Qu'a dit le dentiste la semaine dernière ?", "dentiste", False, False, False, LAST_WEEK),
        ("Où suis-je parti l'année dernière ?", "parti", True, False, True, LAST_YEAR),
        ("Qui est mon chef ?", "chef", True, False, True, None),
        ("Qu'est-ce que j'ai mangé avant-hier ?", "mangé", True, False, False, THE_DAY_BEFORE),
        ("Qu'avons-nous cuisiné il y a deux semaines ?", "cuisiné", False, False, False, TWO_WEEKS_AGO),
        ("Quel livre est-ce que je lis ?", "livre", True, False, True, None),
        ("Depuis quand est-ce que je joue du piano ?", "piano", True, True, False, None),
        ("Depuis combien de temps suis-je professeur ?", "professeur", True, True, False, None),
        ("Quelle est ma boisson préférée ?", "boisson", True, False, False, None),
        ("Pourquoi est-ce que j'étais triste ?", "triste", True, False, False, None),
        ("Avec qui étais-je au cinéma mardi dernier ?", "cinéma", True, False, True, LAST_TUESDAY),
        ("Qu'est-ce que j'ai perdu le mois dernier ?", "perdu", True, False, False, LAST_MONTH),
        ("De quelle couleur est ma voiture ?", "couleur", True, False, False, None),
        ("Comment s'appellent mes enfants ?", "enfants", True, False, True, None),
        ("Qu'est-ce que j'ai dit sur le jardin ?", "jardin", True, False, False, None),
        ("Où travaille ma mère ?", "mère", True, False, True, None),
    ]),
    "Spanish": (SPANISH, [
        ("¿Cómo se llama mi perro?", "perro", True, False, True, None),
        ("¿Dónde vivo yo?", "vivo", True, False, True, None),
        ("¿Cuándo es el cumpleaños de mi hermana?", "cumpleaños", True, True, False, None),
        ("¿Qué compré ayer en el mercado?", "mercado", False, False, False, YESTERDAY),
        ("¿Qué dijo el dentista la semana pasada?", "dentista", False, False, False, LAST_WEEK),
        ("¿Adónde viajé el año pasado?", "viajé", False, False, True, LAST_YEAR),
        ("¿Quién es mi jefe?", "jefe", True, False, True, None),
        ("¿Qué comí anteayer con mi madre?", "comí", True, False, False, THE_DAY_BEFORE),
        ("¿Qué cocinamos hace dos semanas?", "cocinamos", False, False, False, TWO_WEEKS_AGO),
        ("¿Qué libro me gusta más?", "libro", True, False, True, None),
        ("¿Desde cuándo toco yo el piano?", "piano", True, True, False, None),
        ("¿Cuánto tiempo llevo como profesor?", "profesor", False, True, False, None),
        ("¿Cuál es mi bebida favorita?", "bebida", True, False, False, None),
        ("¿Por qué estaba yo triste?", "triste", True, False, False, None),
        ("¿Con quién fui al cine el martes pasado?", "cine", False, False, True, LAST_TUESDAY),
        ("¿Qué perdí el mes pasado?", "perdí", False, False, False, LAST_MONTH),
        ("¿De qué color es mi coche?", "color", True, False, False, None),
        ("¿Cómo se llaman mis hijos?", "hijos", True, False, True, None),
        ("¿Qué dije sobre el jardín?", "jardín", False, False, False, None),
        ("¿Dónde trabaja mi madre?", "madre", True, False, True, None),
    ]),
    "Chinese": (CHINESE, [
        ("我的狗叫什么名字？", "狗", True, False, True, None),
        ("我住在哪里？", "住", True, False, True, None),
        ("我姐姐的生日是几号？", "生日", True, True, False, None),
        ("我昨天买了什么？", "买", True, False, False, YESTERDAY),
        ("牙医上周说了什么？", "牙医", False, False, False, LAST_WEEK),
        ("我去年去了哪里旅行？", "旅行", True, False, True, LAST_YEAR),
        ("谁是我的老板？", "老板", True, False, True, None),
        ("我前天吃了什么？", "吃", True, False, False, THE_DAY_BEFORE),
        ("我们两周前做了什么菜？", "菜", True, False, False, TWO_WEEKS_AGO),
        ("我最近在读哪本书？", "书", True, False, False, None),
        ("我什么时候开始弹钢琴的？", "钢琴", True, True, False, None),
        ("我当老师多久了？", "老师", True, True, False, None),
        ("我最喜欢喝什么？", "喝", True, False, False, None),
        ("我为什么难过？", "难过", True, False, False, None),
        ("我上周二和谁去看电影？", "电影", True, False, True, LAST_TUESDAY),
        ("我上个月丢了什么？", "丢", True, False, False, LAST_MONTH),
        ("我的车是什么颜色？", "颜色", True, False, False, None),
        ("我的孩子叫什么名字？", "孩子", True, False, True, None),
        ("关于花园我说过什么？", "花园", True, False, False, None),
        ("我妈妈在哪里工作？", "工作", True, False, True, None),
    ]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("language", "asked"), [(language, asked) for language, all_ in QUESTIONS.values() for asked in all_]
)
def test_a_question_is_read_in_its_language(language: Language, asked: Asked) -> None:
    text, word, own, wants_time, wants_name, days = asked
    assert language_of(text) is language
    question = Question.read(text, speakers=["user", "assistant"], asker="user", today=TODAY, stemmer=Stemmer())
    assert any(word in term for term in question.terms), question.terms
    assert not {"was", "wie", "qui", "que", "est", "qué", "cómo", "mi", "mein", "mon"} & {*question.terms}
    assert question.about == ({"user"} if own else frozenset())
    assert (question.wants_time, question.wants_name) == (wants_time, wants_name)
    assert [(span.first, span.last) for span in question.spans] == ([days] if days else [])


@pytest.mark.parametrize(
    "text",
    [
        "", "Rufus?", "What did the man die of?", "When does Anna's war film start?", "Am I es or en?",
        "Is he in Las Vegas?", "Who is Le Corbusier?", "What does “wann” mean?",
    ],
)  # fmt: skip
def test_english_is_read_as_before(text: str) -> None:
    assert language_of(text) is None
