//! Spark functions that DataFusion and datafusion-spark do not have.

use datafusion::common::Result;
use datafusion::execution::session_state::SessionState;

/// Registers them all.
pub(crate) fn register(_state: &mut SessionState) -> Result<()> {
    Ok(())
}
