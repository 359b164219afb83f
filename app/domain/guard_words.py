"""The words that guards look for, by what they decide; lower case, languages mixed. Whoever finds a wrong answer adds a word.

A word too many costs a hit, one too few may cost a wrong answer. Of `FILLERS` it is the other way round: a word that means something
in any language does not belong there.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS = _words("""
    not no never none nobody nothing neither nor without cannot except
    nicht nie niemals kein keine keinen keinem keiner keines ohne weder außer
    ne pas jamais aucun aucune sans rien sauf
    nunca jamás sin ningún ninguna ninguno nada tampoco excepto
    non mai senza nessun nessuno nessuna né tranne
    não sem nenhum nenhuma nem exceto
    niet geen nooit zonder
    bez nigdy
    не нет никогда без ни кроме
""")
QUESTIONS = _words("""
    who whom whose what when where why how which
    wer wen wem wessen was wann wo wohin woher warum weshalb wieso wie welche welcher welches welchen
    qui que quoi quand où pourquoi comment combien quel quelle quels quelles
    quién qué cuándo dónde cómo cuál cuánto cuántos quien cuando donde como cual cuanto
    chi cosa dove perché come quale quanto quanti
    quem onde porque qual
    wat wanneer waar waarom hoe welk
    кто что когда где почему как какой какая сколько
""")
OPPOSITES = _words("""
    enable disable enabled disabled activate deactivate on off open close opened closed start stop begin end add remove
    create delete install uninstall increase decrease raise lower more less most least max min maximum minimum before after
    first last next previous old new up down left right buy sell import export upload download encrypt decrypt
    allow deny block unblock accept reject include exclude login logout send receive lock unlock hide show win lose
    subscribe unsubscribe follow unfollow mute unmute merge split push pull cheap cheapest expensive best worst
    largest smallest highest lowest fastest slowest oldest youngest inside outside above below over under
    aktivieren deaktivieren öffnen schließen hinzufügen entfernen löschen erstellen vor nach mehr weniger kaufen verkaufen
    erlauben verbieten größte kleinste höchste niedrigste
    activer désactiver ouvrir fermer ajouter supprimer créer avant après plus moins acheter vendre
    activar desactivar abrir cerrar añadir eliminar crear antes después más menos comprar vender
""")
TIMES = _words("""
    today tomorrow yesterday tonight now currently monday tuesday wednesday thursday friday saturday sunday weekday weekend
    january february april june july august september october november december spring summer autumn winter
    daily weekly monthly yearly hourly morning noon evening night week month year
    heute morgen gestern jetzt montag dienstag mittwoch donnerstag freitag samstag sonntag
    januar februar märz mai juni juli oktober dezember
    hoy mañana ayer lunes martes miércoles jueves viernes sábado domingo enero febrero marzo abril mayo junio julio agosto
    aujourd demain hier lundi mardi mercredi jeudi vendredi samedi dimanche janvier février avril juin juillet août
""")
MONEY = _words("dollar euro pound yen franc rupee yuan won peso krona bitcoin dollars euros pounds francs rupees pesos")
_COUNTED = (
    "zero null cero", "one eins uno", "two zwei deux dos", "three drei trois tres", "four vier quatre cuatro",
    "five fünf cinq cinco", "six sechs seis", "seven sieben sept siete", "eight acht huit ocho",
    "nine neun neuf nueve", "ten zehn dix diez", "eleven elf onze once", "twelve zwölf douze doce",
)  # fmt: skip
NUMBERS = {word: str(value) for value, words in enumerate(_COUNTED) for word in words.split()} | {
    "twenty": "20", "thirty": "30", "fifty": "50", "hundred": "100", "thousand": "1000", "million": "1000000",
    "half": "0.5", "double": "2x", "twice": "2x",
}  # fmt: skip
OPENERS = _words("""
    i a an the this that these those my your our their his her its it he she we you they there here
    is are was were am be been do does did done can could will would shall should may might must has have had
    please tell give show explain describe list find write make help need want let compare translate summarize convert
    calculate define get set name if in on at for from to of with about by as and or but so hi hello hey thanks thank any all
    some many much i'm i'd i've it's
    ich du er sie es wir ihr der das dem des ein eine einen mein meine dein ist sind kann können könnte wird
    soll gibt bitte hallo zeig erkläre sag nenne hast muss
    je tu il elle on nous vous ils le la les un une mes est sont peux peut pouvez dis donne montre bonjour
    yo tú él ella nosotros el los las una mi es puedo puede dime dame muestra hola por
    io lo gli mio mia posso può dimmi ciao o os um uma meu minha
""")
"""Capitalised at a sentence's begin they are no names."""
FILLERS = (
    OPENERS
    | _words("""
    please kindly just also too really actually exactly basically simply way ways me us them than then
    im am zum zur und oder mit von für auf auch denn mir mich uns
    et ou avec dans au aux du de d l s qu c j m t n
    y para en al del e di da do dos das na il per nel
""")
) - (NEGATIONS | OPPOSITES | _words("compare translate summarize convert calculate define describe find write make"))
"""Words that say nothing of what is asked."""
