#!/usr/bin/env python3
"""Are README.md and docs/*.md true? Needs the program and the standard library of Python alone.

    python3 tests/docs/check_commands.py --l3 BUILD/l3 --source DIR

- Every ```sh block says in a comment above it how it is checked:
    <!-- run: toy -->    its commands run, one after the other, on a small set of videos, with sizes cut down
    <!-- run: parse -->  they are only read: scripts, presets, subcommands and options exist
- Every ```cpp block with <!-- from: FILE --> above it is, word for word, a part of that file.
- Every option in docs/commands.md is one of `l3 COMMAND --help`, with the same default, and the other way round.
- Every relative link leads somewhere, every header of include/l3 is on the map in docs/architecture.md.
"""
import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap

# Sizes at which commands run: option -> value, where it is given and, for those marked, also where it is not.
TOY = {
    "synth": {"--videos": "24", "--seconds": "2"},
    "train": {"--model": "tiny", "--batch": "8", "--pairs": "40", "--valid-pairs": "16"},
    "eval": {"--pairs": "16"},
    "baseline trunk": {"--model": "tiny", "--batch": "4", "--pairs": "8", "--valid-pairs": "8"},
    "baseline pretrain": {"--model": "tiny", "--batch": "4", "--pairs": "8", "--valid-pairs": "8"},
    "baseline direct": {"--pairs": "16", "--valid-pairs": "16"},
    "baseline all": {"--model": "tiny", "--batch": "4", "--pairs": "8", "--valid-pairs": "8", "--test-pairs": "16"},
    "probe folder": {"--folds": "2"},
    "probe imagenet": {"--epochs": "2"},
    "inspect units": {"--moments": "16", "--count": "1", "--top": "2"},
    "bench net": {"--model": "tiny", "--batch": "4", "--seconds": "0"},
    "bench loader": {"--model": "tiny", "--batch": "4", "--pairs": "16"},
}
RESUMED = {"--pairs": "48"}  # the rest is what the run was started with

problems = []


def problem(where, expected, found):
    problems.append(f"{where}: expected {expected}, found {found}")


class Block:
    def __init__(self, file, line, language, mark, text):
        self.where, self.language, self.mark, self.text = f"{file.name}:{line}", language, mark, text


def blocks_of(file):
    """All fenced blocks, each with the comment on the line above it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    k = 0
    while k < len(lines):
        if lines[k].startswith("```"):
            begin, above = k, lines[k - 1] if k > 0 else ""
            while (k := k + 1) < len(lines) and lines[k] != "```":
                pass
            mark = re.fullmatch(r"<!-- (run|from): (\S+) -->", above)
            yield Block(file, begin + 1, lines[begin][3:], mark and mark.groups(), "\n".join(lines[begin + 1 : k]))
        k += 1


def commands_of(block):
    """One command a line; a backslash at the end of a line joins it to the next."""
    return [line.strip() for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


# --- Options ----------------------------------------------------------------------------------------------------------


def options_of_help(l3, command):
    """Option -> (takes a value, default or None, required) from `l3 COMMAND --help`."""
    text = subprocess.run([l3, *command.split(), "--help"], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in text.splitlines():
        if not (match := re.match(r" {2,10}(?:-\w, *)?(--[\w-]+(?:, ?--[\w-]+)*)(.*)", line)):
            continue
        words = match[2][:1] == " " and not match[2].startswith("  ") and match[2].split("  ")[0].split() or []
        words = " ".join(word for word in words if word != "...")  # takes several
        words = re.split(r"(?:Needs|Excludes): ", words)[0].split()
        said = " ".join(words)  # TYPE=default or TYPE=[several]; from CLI11 2.4 on TYPE [default] or TYPE [[several]]
        said = said[: said.rindex("]")] if "]" in said else " ".join(words[:2])
        default = re.search(r"[=\[]([^=\[\]]+?)\]?$", said)
        for name in match[1].replace(" ", "").split(","):
            found[name] = (bool(words), default and default[1], "REQUIRED" in words)
    return found


def commands_of_help(l3, *above):
    """Every command that does work: "train", and "bench net" of a command that has commands."""
    text = subprocess.run([l3, *above, "--help"], check=True, capture_output=True, text=True).stdout
    names = re.findall(r"^  (\w+)  ", text.lower().partition("subcommands:")[2], re.MULTILINE)
    if not names:
        return [" ".join(above)]
    return [command for name in names for command in commands_of_help(l3, *above, name)]


def named_in(words, commands):
    """The command that words begin with, or None."""
    return next((name for name in (" ".join(words[:2]), words[0]) if name in commands), None)


def sections_of(file):
    """Heading of the second level -> the rows of its option tables, with those of the command that it refers to:
    "The options of [`l3 COMMAND`](#...)", and perhaps " but `--this` and `--that`"."""
    sections, rows = {}, None
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            rows = sections.setdefault(line[3:].strip(), [])
        elif rows is not None and line.startswith("| `-"):
            rows.append([cell.strip() for cell in line.strip("| ").split(" | ")])
        elif rows is not None and (match := re.match(r"The options of \[`(l3 [\w ]+)`\]\(#[\w-]+\)( but [^,.]*)?", line)):
            left_out = set(re.findall(r"--[\w-]+", match[2] or ""))
            rows += [row for row in sections[match[1]] if re.search(r"--[\w-]+", row[0])[0] not in left_out]
    return sections


def check_reference(l3, commands, file):
    sections = sections_of(file)
    common = sections.get("All commands", [])
    for command, options in commands.items():
        own = sections.get(f"l3 {command}")
        if own is None:
            problem(file.name, f"a section `l3 {command}`", "none")
            continue
        documented = {}
        for row in common + own:
            for name in re.findall(r"--[\w-]+", row[0]):
                documented[name] = (" " in row[0].split(",")[0].strip("`"), row[1])
        for name in documented.keys() - options.keys():
            problem(f"{file.name}, {command}", "an option that `--help` knows", name)
        for name in options.keys() - documented.keys():
            problem(f"{file.name}, {command}", f"{name}, which `--help` has", "nothing about it")
        for name in documented.keys() & options.keys():
            takes_value, default, required = options[name]
            if documented[name][0] != takes_value:
                problem(f"{file.name}, {command} {name}", "a value" if takes_value else "no value", documented[name][0])
            wanted = "required" if required else default or "-"
            if documented[name][1] != wanted:
                problem(f"{file.name}, {command} {name}", f"default {wanted}", documented[name][1])


# --- Commands ---------------------------------------------------------------------------------------------------------


def check_parse(source, commands, block, line):
    words = [word for word in shlex.split(line) if word not in {"&&", "&"}]
    if words[0] in {"mpirun", "srun"}:  # whose own options are theirs to explain
        words = words[next((k for k, word in enumerate(words) if word in {"l3", "build/release/l3"}), 0):]
    program, rest = words[0], words[1:]
    options = {word for word in rest if word.startswith("--")}
    if program in {"l3", "build/release/l3"}:
        if (command := named_in(rest, commands)) is None:
            return problem(block.where, "a subcommand of l3", rest[0])
        known = commands[command].keys()
    elif program == "cmake":
        preset = rest[rest.index("--preset") + 1]
        kind = "buildPresets" if "--build" in options else "configurePresets"
        names = [each["name"] for each in json.loads((source / "CMakePresets.json").read_text())[kind]]
        if preset not in names:
            problem(block.where, f"one of the {kind} " + ", ".join(names), preset)
        known = {"--preset", "--build"}
    elif (script := source / program).is_file() and script.suffix in (".sh", ".py"):
        if not script.stat().st_mode & 0o100:
            problem(block.where, f"{program} that can be executed", "no permission")
        known = set(re.findall(r"--[\w-]+", script.read_text()))
    else:
        return problem(block.where, "l3, cmake or a script", program)
    for name in options - known:
        problem(block.where, f"an option of {program}", name)


def at_toy_size(words):
    """The arguments of l3 with the sizes of TOY. Flags and values that say nothing about size stay."""
    sizes = RESUMED if "--resume" in words else TOY.get(named_in(words, TOY), {})
    missing = dict(sizes) if "--resume" not in words else {}
    cut = list(words)
    for k, word in enumerate(cut[:-1]):
        if word in sizes:
            cut[k + 1] = sizes[word]
            missing.pop(word, None)
    return cut + [word for pair in missing.items() for word in pair]


class Session:
    """A folder with what the documents take for granted; the commands of one document run in it in order."""

    def __init__(self, l3, fixtures, folder):
        self.l3, self.fixtures, self.folder = l3, fixtures, folder
        shutil.copytree(fixtures / "files", folder)

    def prepare(self, words):
        # A document may speak of a run, or of weights, that another one has made.
        for word in words:
            name = word.split("/")[0]
            if word.endswith(".safetensors") and not (self.folder / word).exists() and "train_avc" not in words[0]:
                target = self.folder / word
                target.parent.mkdir(exist_ok=True)
                shutil.copytree(self.fixtures / "run", target.parent, dirs_exist_ok=True) if name != word else shutil.copy(
                    self.fixtures / "run" / "best.safetensors", target)
        if "--resume" in words and not (self.folder / words[words.index("--out") + 1]).exists():
            shutil.copytree(self.fixtures / "run", self.folder / words[words.index("--out") + 1])

    def run(self, block, line):
        line, _, output = line.partition(" > ")
        words = shlex.split(line)
        if words[0] in {"l3", "build/release/l3"}:
            words = [self.l3, *at_toy_size(words[1:])]
        elif words[0].startswith("build/release/examples/"):
            words = [str(pathlib.Path(self.l3).parent / words[0].removeprefix("build/release/")),
                     *(re.sub(r"^\d{3,}$", "16", word) for word in words[1:])]
            if not pathlib.Path(words[0]).exists():
                print(f"not built, not run: {line}")
                return
        else:
            return problem(block.where, "l3 or an example", words[0])
        self.prepare(words)
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            return problem(f"{block.where}: {line}", "exit code 0", f"{done.returncode}: {done.stderr.strip()[-500:]}")
        if output:
            (self.folder / output.strip()).write_text(done.stdout)
            if output.strip().endswith(".json"):
                json.loads(done.stdout)
            elif not done.stdout:
                problem(f"{block.where}: {line}", "something on standard output", "nothing")


def make_fixtures(l3, folder):
    """videos/{train,valid,test}, labelled/{train,valid,test}.csv, classes, esc50, dcase, sounds, pictures, video.mp4; and
    a trained run."""
    run = lambda *words: subprocess.run([l3, *words, "--quiet"], cwd=folder, check=True, timeout=60)
    run("synth", "made", "--videos", "24", "--seconds", "2", "--seed", "1")
    run("train", "--train", "made/train.csv", "--valid", "made/valid.csv", "--out", "run",
        "--model", "tiny", "--batch", "8", "--pairs", "40", "--valid-pairs", "16")
    files = folder / "files"
    for part in ("train", "valid", "test"):
        (files / "videos" / part).mkdir(parents=True)
        for row in (folder / "made" / f"{part}.csv").read_text().splitlines()[1:]:
            name = row.split(",")[0]
            shutil.copy(folder / "made" / name, files / "videos" / part)
    # Labelled sets, in the layouts that the documents speak of: of two classes, however the made-up videos are labelled.
    (files / "labelled").mkdir()
    rows = []
    for part in ("train", "valid", "test"):
        names = sorted(each.name for each in (files / "videos" / part).iterdir())
        labelled = [(f"../videos/{part}/{name}", "drum" if k % 2 else "flute") for k, name in enumerate(names)]
        (files / "labelled" / f"{part}.csv").write_text("path,label\n" + "".join(f"{p},{c}\n" for p, c in labelled))
        rows += labelled
    (files / "ESC-50" / "meta").mkdir(parents=True)
    (files / "ESC-50" / "audio").mkdir()
    meta = ["filename,fold,target,category,esc10,src_file,take"]
    for k, (path, label) in enumerate(rows):
        name, scene = f"{k}.mp4", files / "dcase" / ("train" if k % 4 < 2 else "test")
        for folder_of in (files / "ESC-50" / "audio", files / "classes" / label):
            folder_of.mkdir(parents=True, exist_ok=True)
            shutil.copy(files / "labelled" / path, folder_of / name)
        scene.mkdir(parents=True, exist_ok=True)
        shutil.copy(files / "labelled" / path, scene / f"{label}{k}.wav")
        meta.append(f"{name},{k // 2 % 3 + 1},0,{label},True,{k},A")
    (files / "ESC-50" / "meta" / "esc50.csv").write_text("\n".join(meta) + "\n")
    some = sorted((files / "videos" / "test").iterdir())
    for name in ("sounds", "pictures"):
        (files / name).mkdir()
    for video in some[:2]:
        shutil.copy(video, files / "sounds")
    shutil.copy(some[0], files / "video.mp4")
    for k, name in enumerate(["grey.ppm"] + [f"{part}/{label}/{k}.ppm" for part in ("train", "val")
                                             for label in ("cat", "dog") for k in range(3)]):
        (files / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (files / "pictures" / name).write_bytes(b"P6\n64 48\n255\n" + bytes((17 * k + i) % 256 for i in range(9216)))
    # A run that resumes must find the videos it was started with.
    config = json.loads((folder / "run" / "config.json").read_text())
    config.update(train="videos/train", valid="videos/valid")
    (folder / "run" / "config.json").write_text(json.dumps(config))


# --- Text -------------------------------------------------------------------------------------------------------------


def check_excerpt(source, block, name):
    file, wanted = source / name, block.text.splitlines()
    if not file.is_file():
        return problem(block.where, f"the file {name}", "none")
    lines = file.read_text(encoding="utf-8").splitlines()
    for k in range(len(lines) - len(wanted) + 1):
        if textwrap.dedent("\n".join(lines[k : k + len(wanted)])).splitlines() == wanted:
            return
    problem(block.where, f"a part of {name}, word for word", wanted[0] if wanted else "nothing")


def anchors_of(file):
    """As GitHub names headings: lower case, spaces to dashes, no punctuation."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_links(source, file):
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`(?!\])", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (file.parent / path if path else file).resolve()
        if not aim.exists() or source.resolve() not in aim.parents:
            problem(f"{file.name}", f"something at {path}", "nothing")
        elif anchor and anchor not in anchors_of(aim):
            problem(f"{file.name}", f"a heading for #{anchor} in {aim.name}", ", ".join(sorted(anchors_of(aim))))


def check_map(source, file):
    words = set(re.findall(r"[\w]+\.hpp", file.read_text(encoding="utf-8")))
    for header in sorted((source / "include" / "l3").rglob("*.hpp")):
        if header.name not in words:
            problem(file.name, f"{header.relative_to(source / 'include')} on the map", "nothing about it")
    known = {header.name for header in (source / "include" / "l3").rglob("*.hpp")}
    for name in sorted(words - known):
        problem(file.name, "headers that exist", name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--l3", required=True, type=pathlib.Path, help="the program; examples are looked for beside it")
    parser.add_argument("--source", required=True, type=pathlib.Path, help="the root of the project")
    given = parser.parse_args()
    l3, source = str(given.l3.resolve()), given.source
    documents = [source / "README.md", *sorted((source / "docs").glob("*.md"))]

    commands = {name: options_of_help(l3, name) for name in commands_of_help(l3)}
    if any("--help" not in options for options in commands.values()):
        problem("l3 --help", "subcommands with options", ", ".join(commands))

    check_reference(l3, commands, source / "docs" / "commands.md")
    check_map(source, source / "docs" / "architecture.md")
    ran = 0
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        make_fixtures(l3, work)
        for file in documents:
            check_links(source, file)
            session = Session(l3, work, work / f"session_{file.stem}")
            for block in blocks_of(file):
                kind, value = block.mark or (None, None)
                if block.language == "cpp" and kind == "from":
                    check_excerpt(source, block, value)
                elif block.language == "sh" and (kind, value) not in {("run", "toy"), ("run", "parse")}:
                    problem(block.where, "<!-- run: toy --> or <!-- run: parse --> above commands", value or "none")
                elif block.language == "sh":
                    for line in commands_of(block):
                        if value == "toy":
                            session.run(block, line)
                        else:
                            check_parse(source, commands, block, line)
                        ran += 1
    if ran == 0:
        problem("documents", "commands", "none")
    for each in problems:
        print(each, file=sys.stderr)
    print(f"{len(documents)} documents, {ran} commands, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
