//! Evaluation of policies of AWS: is something allowed?

use serde_json::Value as Json;

/// Lists the values of an element of a policy, where a single one may stand without its array.
fn as_list(value: Option<&Json>) -> Vec<&Json> {
    match value {
        Some(Json::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
        None => Vec::new(),
    }
}

/// Says whether an IoT policy allows the action on the resource: one statement allows it, and none denies it.
pub(super) fn is_allowed(document: &Json, action: &str, resource: &str) -> bool {
    let statements = as_list(document.get("Statement"));
    let covers = |statement: &&&Json| {
        let any = |field: &str, wanted: &str| {
            as_list(statement.get(field))
                .iter()
                .filter_map(|pattern| pattern.as_str())
                .any(|pattern| is_match(pattern, wanted))
        };
        any("Action", action) && any("Resource", resource)
    };
    let has = |effect: &str| {
        statements.iter().filter(covers).any(|statement| statement.get("Effect").and_then(Json::as_str) == Some(effect))
    };
    has("Allow") && !has("Deny")
}

/// Says whether a function's policy lets AWS IoT invoke it for this rule.
pub(super) fn may_rule_invoke(document: &Json, rule_arn: &str) -> bool {
    as_list(document.get("Statement")).into_iter().any(|statement| {
        let is_iot = statement.pointer("/Principal/Service").and_then(Json::as_str) == Some("iot.amazonaws.com");
        let allows = statement.get("Effect").and_then(Json::as_str) == Some("Allow");
        let conditions = statement.get("Condition").and_then(Json::as_object);
        let mut sources = conditions
            .into_iter()
            .flat_map(|conditions| conditions.values())
            .filter_map(Json::as_object)
            .flatten()
            .filter(|(name, _)| name.eq_ignore_ascii_case("aws:SourceArn"))
            .flat_map(|(_, values)| as_list(Some(values)))
            .filter_map(Json::as_str)
            .peekable();
        is_iot && allows && (sources.peek().is_none() || sources.any(|pattern| is_match(pattern, rule_arn)))
    })
}

/// Matches a text with a pattern, in which `*` stands for any number of characters and `?` for one.
fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // For each beginning of the text: does the part of the pattern so far match it?
    let mut reached = vec![false; text.len().saturating_add(1)];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for part in pattern {
        let mut next = vec![false; reached.len()];
        let mut before = false;
        for (at, now) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or(false);
            let last = at.checked_sub(1).and_then(|at| Some((*reached.get(at)?, *text.get(at)?)));
            *now = match part {
                '*' => here || before,
                letter => last.is_some_and(|(matched, other)| matched && (letter == '?' || letter == other)),
            };
            before = *now;
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_are_matched_as_aws_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "a", false),
            ("topic/$aws/things/*/shadow/*", "topic/$aws/things/a/shadow/name/operation/update", true),
            ("topic/createThing", "topic/createThings", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*d", "abcd", true),
            ("*b*d", "abcde", false),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_one_statement_denies_is_not_allowed() {
        let allow = json!({"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"], "Resource": "*"});
        let deny = json!({"Effect": "Deny", "Action": "iot:*", "Resource": ["client/b"]});
        let one = json!({"Statement": allow.clone()});
        let both = json!({"Statement": [allow, deny]});
        assert!(is_allowed(&one, "iot:Connect", "client/b") && !is_allowed(&one, "iot:Receive", "client/b"));
        assert!(is_allowed(&both, "iot:Connect", "client/a") && !is_allowed(&both, "iot:Connect", "client/b"));
        assert!(!is_allowed(&Json::Null, "iot:Connect", "client/a"));
    }

    #[test]
    fn a_rule_invokes_where_its_arn_is_named() {
        let statement = |condition: Json| json!({"Statement": [{"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Condition": condition}]});
        let like =
            statement(json!({"ArnLike": {"AWS:SourceArn": "arn:rule/a"}, "StringEquals": {"AWS:SourceAccount": "1"}}));
        assert!(may_rule_invoke(&like, "arn:rule/a") && !may_rule_invoke(&like, "arn:rule/b"));
        assert!(may_rule_invoke(&statement(json!({})), "arn:rule/b"));
        assert!(!may_rule_invoke(&json!({"Statement": []}), "arn:rule/a"));
    }
}
