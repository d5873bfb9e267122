//! The datamodel shadow, which holds the last known values of the device.

use serde_json::json;

use crate::folding::fold::{Fold, Step};
use crate::folding::{Change, FoldOutcome, OtherResults, Revision, Scope};
use crate::shadows::{Error, Shadows};
use crate::thing::ThingName;

const SHADOW_NAME: &str = "datamodel";

/// The datamodel shadows of all things. Nothing is cached, because another environment may write next.
pub struct DatamodelShadows {
    shadows: Shadows,
}

impl DatamodelShadows {
    /// Datamodel shadows by a client of shadows.
    pub fn new(shadows: Shadows) -> DatamodelShadows {
        DatamodelShadows { shadows }
    }

    /// Folds a change into the thing's datamodel shadow. It takes one call if nothing was written since the last result and
    /// nothing has to be removed.
    ///
    /// The result must already be registered in the ledger, so that folds of older results know about it.
    ///
    /// - `scope`: the scope of the read, within which places that the result does not mention are removed.
    /// - `reported_at`: time of the update of the operation shadow with the result, in seconds since 1970.
    /// - `known`: the datamodel shadow after the last complete fold; `None` unless this result is the newest registered one.
    /// - `others`: reads the other results from the ledger. Called after the shadow is read, and again after each conflict.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if other writes keep coming first, [`Error::TooLarge`] if the document is too large even without
    /// resources that have no value, and the errors of the calls and of `others`. The fold may be repeated; the previous
    /// attempt then counts as [`DatamodelWrite::Unknown`](requests::DatamodelWrite::Unknown).
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
                Step::Read => fold.document_read(self.shadows.get(thing, SHADOW_NAME).await?),
                Step::Create => {
                    self.shadows.update(thing, SHADOW_NAME, json!({}), None).await?;
                    fold.resume();
                }
                Step::ReadLedger => fold.ledger_read(others().await?),
                Step::Write(update, version) => {
                    let state = json!({ "reported": update.into_json() });
                    fold.write_answered(self.shadows.update_once(thing, SHADOW_NAME, state, version).await)?;
                }
                Step::Wait(at_most) => {
                    tokio::time::sleep(at_most.mul_f64(fastrand::f64())).await;
                    fold.resume();
                }
                Step::Done(folded) => return Ok(folded),
            }
        }
    }
}
