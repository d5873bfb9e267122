//! Builder of an item's update. DynamoDB refuses names and values that no expression uses, so each is added together with the
//! clause that uses it.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use requests::Millis;

use crate::due::DueIndex;
use crate::{number, shard};

/// Update of an item in the making.
pub(crate) struct Update {
    call: UpdateItemFluentBuilder,
    set: Vec<String>,
    remove: Vec<String>,
    conditions: Vec<String>,
}

impl Update {
    pub(crate) fn new(call: UpdateItemFluentBuilder) -> Update {
        Update { call, set: Vec::new(), remove: Vec::new(), conditions: Vec::new() }
    }

    /// Sets an attribute.
    pub(crate) fn set(self, name: &str, value: AttributeValue) -> Update {
        let expression = format!(":{name}");
        self.set_to(name, &expression, [(expression.as_str(), value)])
    }

    /// Sets an attribute to an expression with these values.
    pub(crate) fn set_to<'a>(
        mut self,
        name: &str,
        expression: &str,
        values: impl IntoIterator<Item = (&'a str, AttributeValue)>,
    ) -> Update {
        self.set.push(format!("#{name} = {expression}"));
        self.with(name, values)
    }

    /// Removes an attribute.
    pub(crate) fn remove(mut self, name: &str) -> Update {
        self.remove.push(format!("#{name}"));
        self.with(name, [])
    }

    /// Puts the thing into an index at a time, or removes it from the index.
    pub(crate) fn due(self, due: DueIndex, thing: &str, at: Option<Millis>) -> Update {
        let (_, partition, time) = due.names();
        match at {
            Some(at) => self.set(partition, shard(thing)).set(time, number(at)),
            None => self.remove(partition).remove(time),
        }
    }

    /// Adds a condition on one attribute.
    pub(crate) fn only_if<'a>(
        mut self,
        name: &str,
        condition: &str,
        values: impl IntoIterator<Item = (&'a str, AttributeValue)>,
    ) -> Update {
        self.conditions.push(condition.to_owned());
        self.with(name, values)
    }

    /// The call with all clauses.
    pub(crate) fn finish(self) -> UpdateItemFluentBuilder {
        let clause = |word: &str, parts: &[String]| {
            if parts.is_empty() { None } else { Some(format!("{word} {}", parts.join(", "))) }
        };
        let clauses: Vec<String> =
            [clause("SET", &self.set), clause("REMOVE", &self.remove)].into_iter().flatten().collect();
        let call = self.call.update_expression(clauses.join(" "));
        if self.conditions.is_empty() { call } else { call.condition_expression(self.conditions.join(" AND ")) }
    }

    fn with<'a>(mut self, name: &str, values: impl IntoIterator<Item = (&'a str, AttributeValue)>) -> Update {
        self.call = self.call.expression_attribute_names(format!("#{name}"), name);
        for (placeholder, value) in values {
            self.call = self.call.expression_attribute_values(placeholder, value);
        }
        self
    }
}
