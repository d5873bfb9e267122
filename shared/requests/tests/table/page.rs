//! The page docs/request-states.md, written from the machine's behaviour.

use requests::{Claim, DueAction, History, Name, State, code};

use crate::{LIFETIME, NOW, OFFSET, Story};

/// Writes the page of all states and events with `UPDATE_DOCS`, or compares it.
#[test]
fn the_page_of_the_table_is_what_the_machine_does() {
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/request-states.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == page, "docs/request-states.md is stale: UPDATE_DOCS=1 cargo test -p requests --test table page");
}

/// Event of the page's table.
type Happening<'a> = &'a dyn Fn(&mut Story);

/// State of the page's table: its name, and the events that lead to it.
type Row = (&'static str, fn(&mut Story, &str));

/// States of the table, its rows.
const STATES: [Row; 11] = [
    ("absent", |_, _| {}),
    ("held", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
    }),
    ("held, its run is dead", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.now += 61_000;
    }),
    ("waits", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.not_done(1, false, true);
        story.now += 2_000;
    }),
    ("scheduled", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.created(1, "t");
    }),
    ("scheduled, taken back", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.created(1, "t");
        story.cancel(1);
    }),
    ("`FAILED`, refused", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.not_done(1, false, false);
    }),
    ("`OUTCOME_UNKNOWN`", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.not_done(1, true, false);
    }),
    ("`TIMED_OUT`, its task removed", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.created(1, "t");
        story.now += LIFETIME;
        story.removed(1);
    }),
    ("`CANCELED`, its task removed", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.created(1, "t");
        story.cancel(1);
        story.removed(1);
    }),
    ("`SUCCEEDED`, by its report", |story, operation| {
        story.claim(1, operation, &[OFFSET]);
        story.created(1, "t");
        story.offset(2, operation);
        story.succeeds("t");
        story.folded(2);
    }),
];

/// Claim of request 1 by another run: a second delivery or a redrive.
fn second_claim(story: &Story, operation: &str, redriven: bool) -> Claim {
    Claim {
        mark: "another".to_owned(),
        run: "another".to_owned(),
        requested_at: NOW / 1_000,
        expires_at: NOW + 2 * LIFETIME,
        at: story.now + 1,
        redriven,
        history: Some(History::default()),
        ..story.claim_of(1, operation, &[OFFSET])
    }
}

/// Writes the page.
fn page() -> String {
    let mut page = String::from(
        "# States of a request\n\nWritten by a test from what `shared/requests` does (`UPDATE_DOCS=1 cargo test -p requests --test table \
         page`). Each cell is the state after the event; `·` where nothing changes. `held` and `waits` are IN_PROGRESS to the \
         author of a request. Events: `due`: reconcile has it handed over; `201`: Coiote has confirmed the task; `surely not` and \
         `perhaps`: the call failed, and Coiote does not have, or may have, the task; `lifetime over`: the lifetime has ended, or \
         the task of a request that was taken back was removed.\n",
    );
    for (operation, title) in [
        ("read", "Read, write, readComposite: may run twice, and have a result"),
        ("observe", "Observe and the others that may run twice"),
        ("execute", "Execute, create, delete: at most once"),
    ] {
        let events: [(&str, Happening); 12] = [
            ("delivery", &|story| {
                story.claims(second_claim(story, operation, false));
            }),
            ("redrive", &|story| {
                story.claims(second_claim(story, operation, true));
            }),
            ("due", &|story| {
                story.take(1);
            }),
            ("201", &|story| {
                story.created(1, "t");
            }),
            ("surely not", &|story| {
                story.not_done(1, false, true);
            }),
            ("perhaps", &|story| {
                story.not_done(1, true, true);
            }),
            ("refused for good", &|story| {
                story.not_done(1, false, false);
            }),
            ("result", &|story| {
                story.offset(9, operation);
                story.folded(9);
            }),
            ("report: done", &|story| {
                story.succeeds("t");
            }),
            ("report: refused", &|story| {
                story.refuses("t");
            }),
            ("taken back", &|story| {
                story.cancel(1);
            }),
            ("lifetime over", &|story| {
                story.now += LIFETIME;
                story.tick();
                if matches!(story.due_actions().first(), Some(DueAction::Removal { .. })) {
                    story.removed(1);
                }
            }),
        ];
        page.push_str(&format!("\n## {title}\n\n{}\n| state |", diagram(operation, &STATES, &events)));
        for (name, _) in &events {
            page.push_str(&format!(" {name} |"));
        }
        page.push_str(&format!("\n| --- |{}\n", " --- |".repeat(events.len())));
        for (state, lead) in STATES {
            let mut story = Story::new();
            lead(&mut story, operation);
            page.push_str(&format!("| {state} |"));
            for (_, happen) in &events {
                let mut after = story.clone();
                happen(&mut after);
                let (before, after) = (shown(&story), shown(&after));
                page.push_str(&format!(" {} |", if before == after { "·" } else { &after }));
            }
            page.push('\n');
        }
    }
    page
}

/// Mermaid diagram of the same table, in which the variants of a state share a node.
fn diagram(operation: &str, states: &[Row], events: &[(&str, Happening)]) -> String {
    let node = |story: &Story| {
        let state = shown(story).replace('`', "");
        let name = state.split([',', ' ']).next().unwrap().to_owned();
        if name == "absent" { "[*]".to_owned() } else { name }
    };
    let mut edges: Vec<((String, String), Vec<&str>)> = Vec::new();
    for (_, lead) in states {
        let mut story = Story::new();
        lead(&mut story, operation);
        for (event, happen) in events {
            let mut after = story.clone();
            happen(&mut after);
            let edge = (node(&story), node(&after));
            if edge.0 == edge.1 {
                continue;
            }
            match edges.iter_mut().find(|(known, _)| *known == edge) {
                Some((_, labels)) if !labels.contains(event) => labels.push(event),
                Some(_) => {}
                None => edges.push((edge, vec![event])),
            }
        }
    }
    let mut diagram = String::from("```mermaid\nstateDiagram-v2\n");
    for ((from, to), labels) in edges {
        // A colon ends the name of a label.
        diagram.push_str(&format!("    {from} --> {to}: {}\n", labels.join(", ").replace(':', "")));
    }
    diagram + "```\n"
}

/// Name of a state on the page.
fn shown(story: &Story) -> String {
    let Some(record) = story.device.find(&Name::Version(1)) else { return "absent".to_owned() };
    let code = record.reason.as_ref().map_or("", |reason| reason.code.as_ref());
    let taken_back = if record.canceled_by.is_some() { ", taken back" } else { "" };
    match record.state {
        State::Held if record.mark == "another" => "held by it".to_owned(),
        State::Held => format!("held{taken_back}"),
        State::Waiting => "waits".to_owned(),
        State::Scheduled if record.reported_at > 0 => "scheduled, awaits its result".to_owned(),
        State::Scheduled => format!("scheduled{taken_back}"),
        State::Ended(status) if [code::OUTCOME_UNKNOWN, code::DEVICE_REFUSED].contains(&code) => {
            format!("`{}` `{code}`", status.as_str())
        }
        State::Ended(status) => format!("`{}`", status.as_str()),
    }
}
