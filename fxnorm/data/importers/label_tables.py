"""Which of the four stems a published dataset's labels belong to.

Labels are written as :func:`~fxnorm.data.importers.plan.plain_label` returns them: lower case, underscores for blanks.
"""

from collections.abc import Mapping

from fxnorm.data.importers.plan import SKIP

OFFICIAL = "official"
"""The name of MoisesDB's own table (``--mapping official``)."""

MOISESDB_STEMS: Mapping[str, str] = {
    "vocals": "vocals",
    "bass": "bass",
    "drums": "drums",
    "guitar": "other",
    "piano": "other",
    "other_keys": "other",
    "other_plucked": "other",
    "percussion": "other",
    "bowed_strings": "other",
    "wind": "other",
    "other": "other",
}
"""``stemName`` -> group, as ``mix_4_stems`` of moises-ai/moises-db (``moisesdb/defaults.py``) has it."""

MOISESDB_TYPES: Mapping[str, Mapping[str, str]] = {
    "vocals": {
        "lead_male_singer": "vocals",
        "lead_female_singer": "vocals",
        "human_choir": "vocals",
        "background_vocals": "vocals",
        "other": "vocals",  # vocoder, beatboxing
    },
    "bass": {
        "bass_guitar": "bass",
        "bass_synthesizer": "bass",
        "contrabass": "bass",
        "tuba": "other",
        "bassoon": "other",
    },
    "drums": {
        "snare_drum": "drums",
        "toms": "drums",
        "kick_drum": "drums",
        "cymbals": "drums",
        "overheads": "drums",
        "full_acoustic_drumkit": "drums",
        "drum_machine": "drums",
        "hi_hat": "drums",  # in the data, but not in defaults.py
        "hi-hat": "drums",
    },
    "percussion": {
        "a-tonal_percussion": "drums",
        "a_tonal_percussion": "drums",
        "pitched_percussion": "other",
    },
    "guitar": {
        "clean_electric_guitar": "other",
        "distorted_electric_guitar": "other",
        "lap_steel_guitar": "other",
        "acoustic_guitar": "other",
    },
    "piano": {
        "grand_piano": "other",
        "electric_piano": "other",
    },
    "other_keys": {
        "organ": "other",
        "synth_pad": "other",
        "synth_lead": "other",
        "other_sounds": "other",
    },
    "other_plucked": {
        "banjo": "other",
    },
    "bowed_strings": {
        "violin": "other",
        "viola": "other",
        "cello": "other",
        "string_section": "other",
        "other_strings": "other",
    },
    "wind": {
        "brass": "other",
        "flutes": "other",
        "reeds": "other",
        "other_wind": "other",
    },
    "other": {
        "fx": "other",
    },
}
"""``stemName`` -> beginning of ``trackType`` -> group. Beginnings, because sources write the brackets that follow
differently. The table is that of crlandsc/mss-datasets (VDBO): percussion without a pitch belongs to the drums, as in
MUSDB18."""

MOISESDB_SKIPPED: Mapping[str, str] = {"click_track": SKIP}
"""Beginning of ``trackType`` -> group in every stem and with every table: no listener hears a click track."""

MEDLEYDB: Mapping[str, str] = {
    # voices
    "male_singer": "vocals",
    "female_singer": "vocals",
    "male_speaker": "vocals",
    "female_speaker": "vocals",
    "male_rapper": "vocals",
    "female_rapper": "vocals",
    "male_screamer": "vocals",
    "female_screamer": "vocals",
    "vocalists": "vocals",
    "choir": "vocals",
    "beatboxing": "vocals",
    "crowd": "other",
    # drums and percussion without a pitch; timpani are with them in every published table
    "drum_set": "drums",
    "drum_machine": "drums",
    "kick_drum": "drums",
    "snare_drum": "drums",
    "bass_drum": "drums",
    "toms": "drums",
    "high_hat": "drums",
    "cymbal": "drums",
    "timpani": "drums",
    "bongo": "drums",
    "conga": "drums",
    "darbuka": "drums",
    "doumbek": "drums",
    "tabla": "drums",
    "tambourine": "drums",
    "auxiliary_percussion": "drums",
    "gong": "drums",
    "triangle": "drums",
    "cowbell": "drums",
    "sleigh_bells": "drums",
    "cabasa": "drums",
    "guiro": "drums",
    "gu": "drums",
    "castanet": "drums",
    "claps": "drums",
    "rattle": "drums",
    "shaker": "drums",
    "maracas": "drums",
    "snaps": "drums",
    # bass
    "electric_bass": "bass",
    "double_bass": "bass",
    # strings
    "erhu": "other",
    "violin": "other",
    "viola": "other",
    "cello": "other",
    "dilruba": "other",
    "violin_section": "other",
    "viola_section": "other",
    "cello_section": "other",
    "string_section": "other",
    "acoustic_guitar": "other",
    "clean_electric_guitar": "other",
    "distorted_electric_guitar": "other",
    "lap_steel_guitar": "other",
    "slide_guitar": "other",
    "banjo": "other",
    "guzheng": "other",
    "harp": "other",
    "harpsichord": "other",
    "liuqin": "other",
    "mandolin": "other",
    "oud": "other",
    "sitar": "other",
    "ukulele": "other",
    "zhongruan": "other",
    "dulcimer": "other",
    "yangqin": "other",
    "piano": "other",
    "tack_piano": "other",
    "electric_piano": "other",
    # winds
    "dizi": "other",
    "flute": "other",
    "flute_section": "other",
    "woodwind_section": "other",
    "piccolo": "other",
    "bamboo_flute": "other",
    "panpipes": "other",
    "recorder": "other",
    "whistle": "other",
    "alto_saxophone": "other",
    "baritone_saxophone": "other",
    "tenor_saxophone": "other",
    "soprano_saxophone": "other",
    "bass_clarinet": "other",
    "clarinet": "other",
    "clarinet_section": "other",
    "oboe": "other",
    "english_horn": "other",
    "bassoon": "other",
    "bagpipe": "other",
    "trumpet": "other",
    "cornet": "other",
    "trombone": "other",
    "french_horn": "other",
    "euphonium": "other",
    "tuba": "other",
    "brass_section": "other",
    "french_horn_section": "other",
    "trombone_section": "other",
    "horn_section": "other",
    "trumpet_section": "other",
    "harmonica": "other",
    "concertina": "other",
    "accordion": "other",
    "bandoneon": "other",
    "harmonium": "other",
    "pipe_organ": "other",
    "melodica": "other",
    # percussion with a pitch
    "xylophone": "other",
    "vibraphone": "other",
    "marimba": "other",
    "glockenspiel": "other",
    "chimes": "other",
    # electronic
    "synthesizer": "other",
    "electronic_organ": "other",
    "theremin": "other",
    "fx/processed_sound": "other",
    "scratch": "other",
    "scratches": "other",
    "sampler": "other",
    # what the taxonomy has beside instruments
    "unlabeled": "other",
    "main_system": SKIP,
}
"""``instrument`` -> group: the labels of MedleyDB's ``taxonomy.yaml`` and ``instrument_f0_type.json`` in the groups of
crlandsc/mss-datasets (``medleydb_instruments.yaml``) and of MS500 (``med_3lvl_hierarchy.json``), which agree."""

MEDLEYDB_BASS_LINES = frozenset(("synthesizer", "electronic_organ", "unlabeled"))
"""With ``component: bass`` these are the bass of a song, as in MS500. Cello, bassoon and tuba, which play the bass line
of chamber music, are not."""

MEDLEYDB_WHOLE_BAND = "main_system"
"""The label of the pair of microphones that hears the whole band."""

MEDLEYDB_LEFT_OUT: Mapping[str, str] = {
    "HopsNVinyl_ChickenFriedSteak": "the whole mix is audible in the vibraphone's stem",
    "HopsNVinyl_HoneyBrown": "the whole mix is audible in the vibraphone's stem",
    "HopsNVinyl_ReignCheck": "the whole mix is audible in the vibraphone's stem",
    "HopsNVinyl_WidowsWalk": "the whole mix is audible in the vibraphone's stem",
    "Karachacha_Volamos": "the drums are audible in the vibraphone's stem",
}
"""Songs that are of no use, found by listening (crlandsc/mss-datasets, ``docs/medleydb_exclusions.md``)."""

MEDLEYDB_STEMS: Mapping[str, Mapping[int, str]] = {
    "AClassicEducation_NightOwl": {12: "vocals"},
    "AimeeNorwich_Flying": {2: "drums", 7: "bass", 12: "drums"},
    "Creepoid_OldTree": {3: "vocals"},
    "DreamersOfTheGhetto_HeavyLove": {3: "drums"},
    "EthanHein_1930sSynthAndUprightBass": {2: "drums"},
    "Grants_PunchDrunk": {1: "vocals", 8: "vocals", 10: "drums"},
    "Lushlife_ToynbeeSuite": {15: "vocals"},
    "MatthewEntwistle_ImpressionsOfSaturn": {2: "vocals"},
    "MatthewEntwistle_TheArch": {8: "drums", 17: "drums"},
    "PortStWillow_StayEven": {11: "vocals"},
    "Snowmine_Curfews": {6: "drums"},
    "TablaBreakbeatScience_MoodyPlucks": {2: "drums", 3: "drums"},
    "TablaBreakbeatScience_Scorpio": {6: "drums"},
    "TheSoSoGlos_Emergency": {8: "bass"},
}
"""Song -> number of a stem -> group, where listeners heard in a sampler, in effects or in a synthesizer what belongs to
another group (crlandsc/mss-datasets, as above). That project leaves most of these stems out; here they go to the group
of what is heard, so that stems and mixture agree."""
