//! Prints the task that a request becomes, or its findings, without AWS and Coiote.
//!
//! ```sh
//! cargo run --package lwm2m --example task < events/read.json
//! ```

use std::io::{self, Read};

use lwm2m::{Accepted, Request, Strictness, Task};
use serde_json::Value as Json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut event = String::new();
    io::stdin().read_to_string(&mut event)?;
    let Json::Object(mut event) = serde_json::from_str(&event)? else { return Err("not a JSON object".into()) };
    match Request::take(|field| event.remove(field)).parse(Strictness::Reject) {
        Ok(Accepted { operation, notices }) => {
            let Task { template, parameters } = Task::from(&operation);
            println!("{template}");
            for (name, value) in parameters {
                println!("  {name}: {value}");
            }
            for notice in notices {
                println!("notice {}: {}", notice.code, notice.message);
            }
        }
        Err(findings) => {
            for finding in findings {
                println!("{}: {}", finding.code, finding.message);
            }
        }
    }
    Ok(())
}
