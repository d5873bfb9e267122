//! The datamodel shadows of all things.

use serde_json::json;

use crate::folding::fold::{Fold, Step};
use crate::folding::{Change, FoldOutcome, OtherResults, Revision, Scope};
use crate::shadows::{Error, Shadows};
use crate::thing::ThingName;

const SHADOW_NAME: &str = "datamodel";

/// The datamodel shadows of all things. Nothing of them is remembered: another environment may write next.
pub struct DatamodelShadows {
    shadows: Shadows,
}

impl DatamodelShadows {
    pub fn new(shadows: Shadows) -> DatamodelShadows {
        DatamodelShadows { shadows }
    }

    /// Folds a change into the thing's datamodel shadow: one call where nothing has happened since the last result and
    /// there is nothing to take away.
    ///
    /// The result must be registered in the ledger by then, so that folds of older ones know of it.
    ///
    /// - `reported_at`: when the operation shadow was updated with the result, in seconds since 1970.
    /// - `known`: as the last fold that was concluded left the datamodel shadow; `None` unless this result is the newest one
    ///   that is registered.
    /// - `others`: reads the ledger anew. It is called after the shadow was read, and again after each conflict.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if others write all the time, [`Error::TooLarge`] if the data model does not fit even without its
    /// entries that have no value, and whatever the calls and `others` end with. The fold may be repeated, with the attempt
    /// before counting as [`DatamodelWrite::Unknown`](requests::DatamodelWrite::Unknown).
    pub async fn fold(
        &self,
        thing: &ThingName,
        change: &Change,
        scope: &Scope,
        reported_at: Option<u64>,
        known: Option<Revision>,
        others: impl AsyncFn() -> Result<OtherResults, Error>,
    ) -> Result<FoldOutcome, Error> {
        let mut fold = Fold::new(change, scope, reported_at, known);
        loop {
            match fold.step().clone() {
                Step::Read => fold.was_read(self.shadows.get(thing, SHADOW_NAME).await?),
                Step::Create => {
                    self.shadows.update(thing, SHADOW_NAME, json!({}), None).await?;
                    fold.goes_on();
                }
                Step::AskOthers => fold.was_told(others().await?),
                Step::Write(update, version) => {
                    let state = json!({ "reported": update.into_json() });
                    fold.was_written(self.shadows.update_once(thing, SHADOW_NAME, state, version).await)?;
                }
                Step::Wait(at_most) => {
                    tokio::time::sleep(at_most.mul_f64(fastrand::f64())).await;
                    fold.goes_on();
                }
                Step::Done(folded) => return Ok(folded),
            }
        }
    }
}
