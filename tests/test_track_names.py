"""Groups of a session's tracks by the names of their files, stereo pairs, and what is not for the mix."""

import pytest

from fxnorm.data.track_names import Track, contested_sides, group_of, side_of, sort_tracks, source_of
from tests.session_names import NAMES, SESSIONS, UNSEEN


def one(name: str) -> Track:
    (track,) = sort_tracks([name])
    return track


def pairs(*names: str) -> dict[str, str | None]:
    """name -> its side, of tracks that have one."""
    return {track.name: track.side for track in sort_tracks(names) if track.side is not None}


def set_aside(*names: str) -> list[str]:
    return [track.name for track in sort_tracks(names) if track.set_aside]


def test_at_least_97_per_cent_of_names_as_studios_write_them_go_to_the_right_group() -> None:
    wrong = {name: group_of(name)[0] for name, group in NAMES.items() if group_of(name)[0] != group}
    assert len(wrong) <= 0.03 * len(NAMES), wrong
    assert len(NAMES) >= 400


def test_names_that_were_written_without_a_look_at_the_rules_go_to_the_right_group_too() -> None:
    names = {name: group for habit in UNSEEN.values() for name, group in habit.items()}
    found = {name: group_of(name) for name in names}
    wrong = {
        name: found[name]
        for name, group in names.items()
        if (found[name][1] != "guess" if group == "unknown" else found[name][0] != group)
    }
    assert len(wrong) <= 0.03 * len(names), wrong
    assert len(names) >= 600


@pytest.mark.parametrize("habit", SESSIONS)
def test_no_track_of_a_session_is_dropped_or_set_aside_without_need(habit: str) -> None:
    names = list(SESSIONS[habit])
    tracks = sort_tracks(names)
    assert [track.name for track in tracks] == names
    assert {track.group for track in tracks} <= {"vocals", "bass", "drums", "other"}
    assert {name for name in set_aside(*names) if "trig" not in name} == set()


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Drums/01_Kick.wav", "drums"),
        ("Audio Files\\12 Bass.wav", "bass"),
        ("12_ElecGtr1DI.wav", "other"),
        ("45_LeadVoxDT2.wav", "vocals"),
        ("07_OverheadL.wav", "drums"),
        ("Djembé.wav", "drums"),
        ("KICK - U48 - LaChappel 1073.wav", "drums"),
        ("SD VOX-LEAD-M80-1081.wav", "vocals"),
        ("30 Haaaa 1.wav", "vocals"),
        ("KIn_CONS.Kick.wav", "drums"),
        ("22  NYLA LD_bip.wav", "vocals"),
        ("01_808.wav", "drums"),
        ("VOX", "vocals"),
        ("Piano.L.WAV", "other"),
    ],
)
def test_folders_suffixes_numbers_in_front_capitals_and_accents_make_no_difference(name: str, group: str) -> None:
    assert group_of(name) == (group, "word")


STUDIO_WORDS = {
    "vocals": """
        vox voc vocal vocals voice singer choir backingvox backvox bgv bv bg rap rapper adlib shout scream growl speech
        spoken whisper gang crowd chant harm harmony soprano falsetto hum ooh aah ah yeah ld lead acapella
    """,
    "bass": "bass basses bassdi bassamp bassmic basspod elecbass synthbass subbass contrabass uprightbass bs",
    "drums": """
        kick kik bd snare snr sn hihat hat hh tom rototom cymbal cymb ride crash china splash overhead overheads oh ohs
        ohl ohr drum drums drumkit kit perc percussion shaker tamb tambourine clap conga bongo djembe cajon cowbell
        maraca woodblock timp timpani taiko timbale cabasa guiro clave rim rimshot sidestick stick snap stomp loop beat
        break fill brush tabla gong 808 dhol darbuka sleigh castanet vibraslap rainstick triangle
    """,
    "other": """
        gtr gt guitar piano pno keys keyboard synth organ hammond leslie rhodes wurli clav mellotron pad arp string
        violin viola cello fiddle harp harpsichord sax trumpet trombone bone tuba horn brass flute clarinet oboe bassoon
        piccolo recorder harmonica accordion banjo mandolin uke ukulele sitar dobro bell glock vibes xylo marimba
        kalimba chimes whistle bagpipe sfx fx noise sweep theremin
    """,
}


@pytest.mark.parametrize(
    ("group", "word"), [(group, word) for group, words in STUDIO_WORDS.items() for word in words.split()]
)
def test_a_word_of_the_studio_says_the_group_however_it_is_written(group: str, word: str) -> None:
    for name in (f"{word}.wav", f"07_{word.upper()}.WAV", f"{word.capitalize()} 2.aif", f"12 {word}_U47.flac"):
        assert group_of(name) == (group, "word"), name


SAY_NOTHING = """
    dt dbl double dup di mic close in out up down top bottom l r left right hi lo mid take alt comp dry wet verse chorus
    bridge u47 sm57 m80 ak47 c414 ssl api 1073
"""


@pytest.mark.parametrize("word", SAY_NOTHING.split())
def test_words_for_places_versions_and_equipment_say_nothing(word: str) -> None:
    assert group_of(f"{word}.wav") == ("other", "guess")
    assert group_of(f"Vox_{word}.wav") == ("vocals", "word")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("01_KickIn.wav", "kick"),
        ("Kick Out - D112.wav", "kick"),
        ("SubKick.wav", "kick"),
        ("12_ElecGtr1DI.wav", "elec gtr 1"),
        ("ElecGtr1 - SM57.wav", "elec gtr 1"),
        ("13_ElecGtr2.wav", "elec gtr 2"),
        ("27_LeadVox.wav", "lead vox"),
        ("28_LeadVoxDT2.wav", "lead vox"),
        ("BackingVox3.wav", "backing vox 3"),
        ("OH_L.wav", "oh"),
        ("ohr.wav", "oh"),
        ("bassdi.wav", "bass"),
        ("BassAmp.wav", "bass"),
        ("Ch11 Gtr.wav", "gtr"),
        ("Gitarre rechts.wav", "gitarre"),
        ("Room L.wav", "room"),
        ("Audio 7.wav", "audio 7"),
        ("L.wav", ""),
    ],
)
def test_microphones_doubles_and_sides_are_of_one_source(name: str, source: str) -> None:
    assert source_of(name) == source
    assert one(name).source == source


def test_more_files_for_one_side_than_for_the_other_are_told() -> None:
    names = ["01_OH_L.wav", "02_OHL.wav", "03_OH_R.wav", "PianoL.wav", "PianoR.wav", "GtrL.wav"]
    assert contested_sides(names) == [["01_OH_L.wav", "02_OHL.wav", "03_OH_R.wav"]]
    assert [side_of(name) for name in names] == ["left", "left", "right", "left", "right", "left"]
    assert side_of("Kick.wav") is None


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("BassDrum", "drums"),
        ("bass drum 2", "drums"),
        ("Bass Clarinet", "other"),
        ("BassTrombone", "other"),
        ("Bass Sax", "other"),
        ("Bass Flute", "other"),
        ("Beatbox", "vocals"),
        ("SynthBass", "bass"),
        ("BassSynth", "bass"),
        ("AcBassGtr", "bass"),
        ("Double Bass", "bass"),
        ("VocalsBass", "vocals"),
        ("Bass Vocals", "bass"),
        ("Alto Sax", "other"),
        ("Sax Tenor 2", "other"),
        ("BaritoneSax", "other"),
        ("Tenor 1", "vocals"),
        ("Lead", "vocals"),
        ("LeadSynth", "other"),
        ("Lead Gtr", "other"),
        ("Lead Keys", "other"),
        ("LeadSax", "other"),
        ("KickGtrBleed", "drums"),
        ("Gtr Kick", "other"),
        ("Cow Bell", "drums"),
        ("Sleigh Bells", "drums"),
        ("Bell", "other"),
        ("Steel Drum", "other"),
        ("SynthTom", "drums"),
    ],
)
def test_of_words_of_several_groups_the_right_one_decides(name: str, group: str) -> None:
    assert group_of(f"03_{name}.wav") == (group, "word")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SD VOX-M80", ("vocals", "word")),  # "studio delivery"
        ("SD BASS", ("bass", "word")),
        ("SD", ("drums", "guess")),
        ("SubKick", ("drums", "word")),
        ("Kick Sub", ("drums", "word")),
        ("Sub Bass", ("bass", "word")),
        ("Sub", ("bass", "word")),
        ("Sub Synth", ("bass", "word")),
        ("Harm", ("vocals", "word")),
        ("Harm Gtr", ("other", "word")),
        ("Gtr Harm", ("other", "word")),
        ("Snare Sample", ("drums", "word")),
        ("Sample Kick", ("drums", "word")),
        ("Vox Sample", ("vocals", "word")),
        ("Sample", ("other", "guess")),
        ("Gtr DT", ("other", "word")),
        ("LeadVox DT", ("vocals", "word")),
        ("Upright Bass", ("bass", "word")),
        ("Upright Piano", ("other", "word")),
        ("Break Gtr", ("other", "word")),
        ("Vox Organ", ("other", "word")),
        ("Palm Mute Gtr", ("other", "word")),
    ],
)
def test_words_with_two_meanings_give_way_to_a_plain_one(name: str, expected: tuple[str, str]) -> None:
    assert group_of(f"{name}.wav") == expected
    assert not one(f"{name}.wav").set_aside


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Room.wav", "drums"),
        ("14_Ambience.wav", "drums"),
        ("Far L.wav", "drums"),
        ("Chamber.wav", "drums"),
        ("Audio 07.wav", "other"),
        ("Zzyzx.wav", "other"),
        ("___.wav", "other"),
        ("日本.wav", "other"),
    ],
)
def test_names_without_a_word_of_a_group_are_a_guess_and_stay(name: str, group: str) -> None:
    track = one(name)
    assert (track.group, track.by, track.set_aside) == (group, "guess", "")


@pytest.mark.parametrize("name", ["VoxRoom.wav", "Room Vocal.wav"])
def test_a_room_of_something_belongs_to_that(name: str) -> None:
    assert group_of(name) == ("vocals", "word")


@pytest.mark.parametrize(
    "name",
    [
        "Talkback.wav",
        "Talk Back Mic.wav",
        "Click.wav",
        "01_ClickTrack.wav",
        "Guide.wav",
        "GuideVox.wav",
        "ScratchVox.wav",
        "Count-In.wav",
        "Main Pair.wav",
        "Decca.wav",
        "Spot 1.wav",
        "Mix.wav",
        "Master_v3.wav",
        "KickTrigger.wav",
        "Snare Trig.wav",
        "SMPTE.wav",
        "Gtr Unused.wav",
    ],
)
def test_what_is_not_for_the_mix_is_set_aside_with_a_reason(name: str) -> None:
    assert one(name).set_aside


@pytest.mark.parametrize(
    "name", ["Kick Click.wav", "Drum Mix.wav", "Main Vox.wav", "DJ Scratch.wav", "Spot Violin.wav"]
)
def test_such_words_beside_an_instrument_do_not_set_it_aside(name: str) -> None:
    assert not one(name).set_aside


def test_an_alternate_is_set_aside_where_the_track_that_it_replaces_is_there() -> None:
    assert set_aside("32_LeadVox.wav", "33_LeadVox_Alt.wav") == ["33_LeadVox_Alt.wav"]
    assert set_aside("32_LeadVox.wav", "33_LeadVox_Alt2.wav", "34_LeadVox2.wav") == ["33_LeadVox_Alt2.wav"]
    assert set_aside("33_LeadVox_Alt.wav", "34_BackingVox.wav") == []
    (_, alternate) = sort_tracks(["32_LeadVox.wav", "33_LeadVox_Alt.wav"])
    assert "32_LeadVox.wav" in alternate.set_aside
    assert (alternate.group, alternate.by) == ("vocals", "word")


def test_an_untuned_version_is_set_aside_where_the_tuned_one_is_there() -> None:
    assert set_aside("BV1.wav", "BV1_Untuned.wav") == ["BV1_Untuned.wav"]
    assert set_aside("BV1_Tuned.wav", "BV1.wav", "BV2.wav") == ["BV1.wav"]
    assert set_aside("BV1_Untuned.wav", "BV2.wav") == []


def test_of_numbered_takes_without_a_composite_the_first_is_used() -> None:
    assert set_aside("Vox Take 1.wav", "Vox Take 2.wav", "Vox Take 3.wav") == ["Vox Take 2.wav", "Vox Take 3.wav"]
    assert set_aside("Vox Take 1.wav", "Vox Comp.wav") == ["Vox Take 1.wav"]


def test_doubles_and_microphones_of_one_source_all_stay() -> None:
    assert set_aside("LeadVox.wav", "LeadVoxDT1.wav", "LeadVoxDT2.wav", "BassDI.wav", "BassAmp.wav") == []


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("OH_L.wav", "OH_R.wav"),
        ("07_OverheadL.wav", "08_OverheadR.wav"),
        ("PianoL.wav", "PianoR.wav"),
        ("Piano.L.wav", "Piano.R.wav"),
        ("ohl.wav", "ohr.wav"),
        ("Gtr Left.wav", "Gtr Right.wav"),
        ("Room_L_57.wav", "Room_R_57.wav"),
        ("GTR 1 L.wav", "GTR 1 R.wav"),
    ],
)
def test_two_files_of_a_stereo_pair_are_left_and_right(left: str, right: str) -> None:
    first, second = sort_tracks([left, right])
    assert (first.side, first.pair) == ("left", right)
    assert (second.side, second.pair) == ("right", left)


def test_only_names_that_differ_in_the_side_alone_are_pairs() -> None:
    assert pairs("Gtr1L.wav", "Gtr2R.wav") == {}
    assert pairs("GtrL.wav") == {}
    assert pairs("L.wav", "R.wav") == {}
    assert pairs("GtrL.wav", "VoxR.wav") == {}
    assert pairs("01_GtrL.wav", "02_GtrL.wav", "03_GtrR.wav") == {}
    assert pairs("01_GtrL.wav", "02_GtrR.wav", "03_GtrL.wav", "04_GtrR.wav") == {
        "01_GtrL.wav": "left", "02_GtrR.wav": "right", "03_GtrL.wav": "left", "04_GtrR.wav": "right",
    }  # fmt: skip


def test_a_long_name_takes_no_time() -> None:
    assert group_of("kicksnaretomhat" * 5_000 + ".wav") == ("other", "guess")
    assert group_of("a" * 100_000)[0] == "vocals"
