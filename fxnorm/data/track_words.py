"""The words in names of tracks that :mod:`fxnorm.data.track_names` knows, and what they say."""

import re
from enum import IntEnum


class Weight(IntEnum):
    """How much a word says of the group beside a word of another group."""

    DOUBTFUL = 0
    """Gives way to any other, and alone is a guess: ``sd`` is a snare, or "studio delivery"."""
    WEAK = 1
    """Gives way to a strong one: a ``lead`` is a voice, a ``lead guitar`` is not."""
    STRONG = 2


_STRONG = {
    "vocals": """
        vox voc vocs vocal vocalist vocalists voice singer singers vx vocoder backing backings backvox bvox bvx bv bgv
        bgvx bgvox bkgvox bkv bvoc bgvoc ldvox ldv ldvx leadvox lvox lv vo choir choirs rap rapper adlib shout scream
        growl speech spoken whisper chant falsetto hum humming ooh aah ah yeah hey woah whoa acapella narration
        narrator dialog dialogue beatbox beatboxing talkbox voix gesang stimme stimmen voz voces coro coros choeur
        choeurs vozes voce chor hauptstimme backup backups topline toplines singing sings sing vocais vocale vocali
        corista coristas coristi cori cantante cantor cantora canto controcanto chanteur chanteuse sprecher sprecherin
        sprechgesang hamori
    """,
    "bass": """
        bass basses bassdi bassamp bassmic basspod contrabass upbass bs bassguitar bassgtr bss cbass kontrabass basse
        bajo baixo reese bassline basslines basso bassi contrebasse contrabbasso contrabajo contrabaixo beesu pbass
        jbass
    """,
    "drums": """
        kick kik kck kic bd bassdrum snare snr sn snre hihat hihats hat hats hh hhat tom toms rototom rototoms cymbal
        cymb cym cyms ride crash china splash overhead overheads oh ohs ovh ovhd drum drums drm drms drumkit kit perc
        percs percussion shaker shkr shake tamb tambo tambourine tamborine clap claps handclap conga congas bongo
        bongos djembe cajon cowbell maraca maracas woodblock timp timpani taiko timbale timbales cabasa guiro clave
        claves rim rimshot sidestick xstick stick sticks snap snaps stomp stomps brush brushes tabla gong dhol darbuka
        doumbek dumbek sleigh castanet castanets vibraslap rainstick triangle agogo surdo pandeiro udu caxixi cuica
        bodhran fok schlagzeug bateria batterie caja bombo becken platillo platillos charley charleston palmas trommel
        trommeln standtom hangetom schellenkranz schellen rassel rasseln pauke pauken klatschen klatscher besen
        cymbale tambour tambourin caisse percu percus cassa rullante piatto piatti panoramici tamburello tamburo
        nacchere batteria aereo aereos redoblante tarola pandereta cencerro tambor bumbo caixa chimbal prato pratos
        tamborim washboard kuhglocke platos chimbau grancassa triangolo triangulo shekere ganza zabumba atabaque
        repique daiko tsuzumi hyoshigi doramu bata
    """,
    "other": """
        gtr gtrs gt guitar guit git egtr agtr elgtr acgtr gitarre guitarra guitare strat dobro piano pno klavier keys
        key keyboard keyb keybs kbd teclado teclados synth syn synths synthesizer supersaw organ org orgel hammond
        leslie rhodes wurli wurly wurlitzer clav clavinet epiano epno harpsichord celeste celesta mellotron mello
        melotron moog juno prophet nord korg jupiter virus pad pads arp arps arpeggio lick string strings strs violin
        violins vln vlns viola violas vla vlas cello celli cellos vlc fiddle harp sax saxes saxo saxofon saxophone
        trumpet trumpets tpt trombone trombones tbn bone bones tuba sousaphone horn horns hrn brass flute flutes flt
        clarinet clar oboe bassoon bsn piccolo recorder harmonica accordion accord akkordeon bandoneon concertina
        melodica harmonium banjo mandolin mando mandola uke ukulele sitar bouzouki charango oud zither dulcimer
        autoharp bell bells glock glocken glockenspiel vibes vibraphone vibe xylo xylophone marimba kalimba chime
        chimes whistle bagpipe bagpipes pipes didgeridoo theremin sfx saw noise sweep swell riser uplifter downlifter
        stab stabs pluck drone orchestra orch woodwind woodwinds winds scratch scratches turntable foley atmos
        atmosphere texture fluegel flugel streicher blaser geige geigen bratsche querflote blockflote posaune trompete
        gerausche saiten clavier claviers nappe nappes orgue violon violons cordes cuivres accordeon chitarra chitarre
        pianoforte tastiera tastiere archi fiati tromba trombe fisarmonica violoncello arpa organo violao cavaquinho
        cavaco trompeta trompetas cuerdas cordas sanfona acordeon metais metales sopros flauta gita akogi kiibodo koto
        shamisen shakuhachi shinobue biwa erhu guzheng pipa dizi yangqin
    """,
}
_WEAK = {
    "vocals": """
        lead ld leads bg bgs back bkg bkgd harm harms harmony harmonies gang crowd group soprano alto tenor baritone
        duet stack stacks audience sop mezzo
    """,
    "bass": "sub",
    "drums": """
        loop loops beat beats break breaks fill fills 808 909 mpc rack floor flr ft egg eggs spd spds drummer groove
        grooves
    """,
    "other": "fx melody melodies",
}
_DOUBTFUL = {
    "vocals": "male female girl girls boys kids mc cho uta koe",
    "bass": "upright fretless 303 db ba stingray",
    "drums": "sd t beater batter reso crotch trash crush knee gc cc gu kane shime timpano charlie",
    "other": """
        sample samples smp acoustic acou acc ac acstc electric elec el nylon crunch distorted dist clean rhythm rhy
        rhtm solo riff slide twang tele telecaster marshall fender mesa amp reverse
    """,
}
_NEUTRAL = """
    dt dbl double doubled dup di mic mics close in out inside outside up down top bot bott bottom btm hi high lo low mid
    l r left right stereo mono st take tk alt comp dry wet verse vrs chorus cho chrs bridge brdg intro outro pre
    hook end ver chr main pair room rooms amb ambient ambience far near chamber spot track trk audio new final edit
    ed print hard soft long short big small fat front rear center centre loud quiet ssl api neve sm beta akg ak
    neumann royer coles shure senn senne sennheiser ribbon condenser tube pzm dpa
"""
NEUTRAL = frozenset(_NEUTRAL.split())
"""Words that say nothing of the group, listed for names that are written without a break: ``kickout``."""

WORDS: dict[str, tuple[str, Weight]] = {
    word: (group, weight)
    for weight, table in (
        (Weight.DOUBTFUL, _DOUBTFUL), (Weight.WEAK, _WEAK), (Weight.STRONG, _STRONG),
    )
    for group, words in table.items()
    for word in words.split()
}  # fmt: skip

PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("bass", "drum"): ("bassdrum",),
    ("bass", "drums"): ("bassdrum",),
    ("grosse", "caisse"): ("kick",),
    ("caisse", "claire"): ("snare",),
    ("cow", "bell"): ("cowbell",),
    ("cow", "bells"): ("cowbell",),
    ("sleigh", "bells"): ("sleigh",),
    ("jingle", "bells"): ("sleigh",),
    ("jingle", "bell"): ("sleigh",),
    ("wood", "block"): ("woodblock",),
    ("wood", "blocks"): ("woodblock",),
    ("rain", "stick"): ("rainstick",),
    ("side", "stick"): ("sidestick",),
    ("cross", "stick"): ("sidestick",),
    ("x", "stick"): ("sidestick",),
    ("hi", "hat"): ("hihat",),
    ("hi", "hats"): ("hihat",),
    ("high", "hat"): ("hihat",),
    ("h", "hat"): ("hihat",),
    ("over", "head"): ("overhead",),
    ("over", "heads"): ("overhead",),
    ("o", "h"): ("overhead",),
    ("sub", "kick"): ("kick",),
    ("kick", "sub"): ("kick",),
    ("808", "glide"): ("bass",),
    ("808", "sub"): ("bass",),
    ("steel", "drum"): ("marimba",),
    ("steel", "drums"): ("marimba",),
    ("steel", "pan"): ("marimba",),
    ("hand", "pan"): ("marimba",),
    ("tongue", "drum"): ("marimba",),
    ("pedal", "steel"): ("guitar",),
    ("lap", "steel"): ("guitar",),
    ("music", "box"): ("glock",),
    ("dx", "7"): ("synth",),
    ("beat", "box"): ("beatbox",),
    ("ad", "lib"): ("adlib",),
    ("ad", "libs"): ("adlib",),
    ("a", "capella"): ("acapella",),
    ("a", "cappella"): ("acapella",),
    ("voice", "over"): ("voice",),
    ("vox", "organ"): ("organ",),
    ("vox", "continental"): ("organ",),
    ("vox", "ac"): ("amp",),
    ("talk", "back"): ("talkback",),
    ("count", "in"): ("countin",),
    ("count", "off"): ("countin",),
    ("click", "track"): ("click",),
    ("time", "code"): ("timecode",),
    ("rough", "mix"): ("mixdown",),
    ("stereo", "mix"): ("mixdown",),
    ("un", "tuned"): ("untuned",),
    ("no", "tune"): ("untuned",),
    ("not", "tuned"): ("untuned",),
    ("non", "tuned"): ("untuned",),
}
"""Words that together mean something else than each, with a word of that meaning."""

_LOW_WINDS = (
    "sax saxes saxo saxophone clarinet clar cl trombone tbn bone flute flt recorder harmonica marimba oboe tuba"
)
LOW_WINDS = frozenset(_LOW_WINDS.split())
"""Instruments that have a bass among them: a bass clarinet is no bass."""
KEYS_WITH_A_BASS = frozenset(("piano", "pno", "klavier", "grand", "flugel", "fluegel", "accordion", "akkordeon"))
"""Instruments whose low end has a microphone of its own: the bass of a piano is no bass."""
NAMES_OF_PEOPLE = frozenset(("tom", "charlie"))
"""Words for drums that are names of singers as well."""
SECTIONS = frozenset(("verse", "vrs", "ver", "chorus", "chrs", "chr", "bridge", "brdg", "pre", "refrain", "strophe"))
HOOK = "hook"
"""Parts of a song. What nothing else is said of is sung there: a hook, or doubles of a chorus."""
COMPOUNDS = {
    "gesang": "gesang", "stimme": "stimme", "stimmen": "stimmen", "chor": "chor", "trommel": "trommel",
    "trommeln": "trommeln", "becken": "becken", "bass": "bass", "basse": "basse", "gitarre": "gitarre",
    "gitarren": "gitarre", "klavier": "klavier", "orgel": "orgel", "flote": "querflote", "geige": "geige",
    "posaune": "posaune", "trompete": "trompete", "daiko": "daiko",
}  # fmt: skip
"""Ends of words that are written in one (German, Japanese), by the word that says the same: ``Hintergrundgesang``."""
DRUMS = frozenset(_STRONG["drums"].split())
SYNTHETIC = frozenset(("synth", "syn"))

ROOM = re.compile(r"rooms?|rms?|amb\w*|far|chamber")
SUNG = re.compile(r"h?a{2,}h*|a+h{2,}|o{2,}h*|oh{2,}s?|m{2,}h*|hmm+|wh?oah?|ye+a+h*")
"""Sung syllables in any length: ``Haaaa``, ``ooooh``; ``oh`` alone is an overhead."""
NO_TRACK = {
    "talkback": "talkback", "tb": "talkback", "slate": "talkback", "click": "a click track",
    "metronome": "a click track", "metro": "a click track", "timecode": "time code", "smpte": "time code",
    "ltc": "time code", "countin": "a count-in", "guide": "a guide track", "cue": "a cue track",
}  # fmt: skip
WHOLE_BAND = frozenset(
    ("mix", "mixdown", "master", "mastered", "main", "pair", "decca", "spot", "bounce", "preview", "remix")
)
"""Without a word of a group: the whole band, or a mix of it."""
TRIGGERS = frozenset(("trigger", "triggers", "trig", "trigs", "triggered", "trg"))
UNUSED = frozenset(("unused", "outtake", "outtakes", "rejected", "delete"))

VERSIONS = {
    "tuned": 0, "comp": 0, "comped": 0, "take": 2, "tk": 2, "alt": 3, "alternate": 3, "alternative": 3, "untuned": 4,
    "notune": 4,
}  # fmt: skip
"""Words of one recording's versions, by how far they are from what is mixed; 1 is a name without such a word."""
PLAIN_VERSION = 1
NUMBERED_VERSIONS = frozenset(("take", "tk", "alt", "alternate", "alternative", "comp"))

DOUBLED = frozenset(("dt", "dbl", "double", "doubled", "doubles", "dup", "dub", "triple", "tpl"))
"""Of a second recording of the same part; a number behind one counts the recordings, not the parts."""
CHANNELS = frozenset(("ch", "chan", "channel", "input", "track", "trk"))
"""In front of a number, the place at a desk."""
GLUED_SOURCES = {"bassdi": "bass", "bassamp": "bass", "bassmic": "bass", "basspod": "bass", "leadvox": "vox"}
"""Words that are listed whole, by the one that says what plays."""
_EQUIPMENT = """
    mike cab cabinet amp ampl di xlr direct line u c d e r m t km fet cm tlm re md rca kt svt pod twin reddi avalon
    radial la la2a distressor pultec helios trident mxl rode audix blumlein spaced ortf xy ms wide verb rev reverb
    delay parallel
"""
EQUIPMENT = frozenset(_EQUIPMENT.split())
"""Microphones, amplifiers and treatments: of what plays they say nothing either."""

MIX_FOLDERS = frozenset(("mixes", "mix", "mixdowns", "previews"))
"""Names of folders, in lower case, in which a session has mixes."""
TRACK_FOLDERS = frozenset(("tracks", "raw", "raw tracks", "multitracks", "audio", "audio files", "wav", "wavs"))
"""Names of folders, in lower case, in which a session has its tracks."""
