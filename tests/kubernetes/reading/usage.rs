//! The two forms of the commands, and the plugin of kubectl.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mailferry::cli::Cli;

use crate::ferry::Ended;
use crate::reading::world::end;
use crate::support::cluster::Namespace;

fn mailferry(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    end(command.args(args).env("KUBECONFIG", "/nowhere"))
}

#[test]
fn exactly_one_of_the_two_forms_is_taken() {
    let forms = "Usage: mailferry status [OPTIONS] [-n NAMESPACE] NAME\n       mailferry status [OPTIONS] -f PATH... --state DIR";
    for (args, wanted) in [
        (&["status"][..], "<NAME|--file <PATH>...>"),
        (&["status", "-n", "x"], "<NAME|--file <PATH>...>"),
        (&["status", "--state", "s"], "<NAME|--file <PATH>...>"),
        (&["status", "-f", "m.yaml"], "--state <DIR>"),
        (&["status", "move", "--state", "s"], "'[NAME]' cannot be used with '--state <DIR>'"),
        (&["status", "move", "-f", "m.yaml", "--state", "s"], "'[NAME]' cannot be used with"),
        (
            &["status", "-f", "m.yaml", "--state", "s", "-n", "x"],
            "cannot be used with '--namespace <NAMESPACE>'",
        ),
        (
            &["status", "-f", "m.yaml", "--state", "s", "--context", "x"],
            "cannot be used with '--context <CONTEXT>'",
        ),
    ] {
        let said = mailferry(args).expect_code(2).stderr.clone();
        assert!(said.contains(wanted) && said.contains(forms), "{args:?}\n{said}");
    }
    let said = mailferry(&["status", "Move/../x"]).expect_code(2).stderr.clone();
    assert!(said.contains("it is no name of an object"), "{said}");
}

#[test]
fn the_format_is_said_or_shown_by_the_name_of_the_file() {
    let said = mailferry(&["report", "move"]).expect_code(2).stderr.clone();
    assert!(said.contains("--format <FORMAT>"), "{said}");
    let (error, hint) = mailferry(&["report", "move", "-o", "move.pdf"]).expect_code(23).error();
    assert!(error.starts_with("move.pdf: the name does not say how the report is written"), "{error}");
    assert!(hint.contains("--format"), "{hint}");
    for out in ["move.HTML", "move.csv", "move.xlsx", "move.json"] {
        // It goes on, as far as the cluster that is not there.
        let (error, _) = mailferry(&["report", "move", "-o", out]).expect_code(23).error();
        assert!(error.starts_with("/nowhere: cannot be read"), "{error}");
        assert!(!Path::new(out).exists());
    }
}

#[test]
fn as_a_plugin_of_kubectl_it_speaks_so() {
    let space = Namespace::new();
    space.cluster().apply_crds();
    let directory = tempfile::tempdir().unwrap();
    symlink(env!("CARGO_BIN_EXE_mailferry"), directory.path().join("kubectl-mailferry")).unwrap();
    let kubectl = |args: &[&str]| {
        let mut command = space.cluster().command("kubectl");
        let path = command.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value?.to_owned()));
        let path = path.or_else(|| env::var_os("PATH")).unwrap();
        let places = [directory.path().to_owned()].into_iter().chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(places).unwrap()).args(args);
        end(&mut command)
    };
    let help = kubectl(&["mailferry", "report", "--help"]).expect_code(0).stdout.clone();
    for part in [
        "Usage: kubectl mailferry report [OPTIONS] [-n NAMESPACE] NAME\n       kubectl mailferry report ",
        "\n  kubectl mailferry report -n contoso-mail contoso -o contoso.html",
    ] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    let all = kubectl(&["mailferry", "--help"]).expect_code(0).stdout.clone();
    assert!(
        all.contains("Usage: kubectl mailferry [OPTIONS] <COMMAND>")
            && all.contains("Begin with: kubectl mailferry init, then kubectl mailferry run"),
        "{all}"
    );
    let refused = kubectl(&["mailferry", "status"]).expect_code(2).stderr.clone();
    assert!(refused.contains("Usage: kubectl mailferry status [OPTIONS]"), "{refused}");
    let (error, _) = kubectl(&["mailferry", "status", "-n", space.name(), "move"]).expect_code(23).error();
    assert!(error.contains(&format!("is not in namespace {}", space.name())), "{error}");
}

/// Commands of a text that show a migration, one a line, without the comment behind them.
fn shown_commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| {
        ["mailferry status ", "mailferry report ", "kubectl mailferry "]
            .iter()
            .any(|begin| line.starts_with(begin))
    });
    let words = |line: &str| {
        let command = line.split("  ").next().unwrap().split(" # ").next().unwrap();
        command.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect()
    };
    lines.map(words).collect()
}

#[test]
fn the_commands_that_pages_and_help_show_are_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut shown: Vec<_> = pages
        .chain([root.join("README.md")])
        .flat_map(|page| shown_commands(&fs::read_to_string(page).unwrap()))
        .collect();
    for command in Cli::called(OsStr::new("mailferry")).get_subcommands() {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // Text after a blank line is explanation, not typed; columns of remarks are two blanks away.
        shown.extend(shown_commands(&examples));
    }
    assert!(shown.len() > 15, "{shown:?}");
    for words in shown {
        let plugin = words[0] == "kubectl";
        let program = if plugin { "/usr/bin/kubectl-mailferry" } else { "mailferry" };
        let taken = Cli::called(OsStr::new(program)).try_get_matches_from(&words[usize::from(plugin)..]);
        assert!(taken.is_ok(), "{words:?}: {}", taken.unwrap_err());
    }
}
