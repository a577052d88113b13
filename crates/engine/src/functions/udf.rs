//! A scalar function as a value: name, types, body.

use std::hash::{Hash, Hasher};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// Types that the arguments are cast to, for arguments of these types; the error says what is expected.
type Coerce = fn(&[DataType]) -> Result<Vec<DataType>, String>;
/// The function itself, over arguments of the coerced types.
type Body = fn(&[ColumnarValue], usize) -> Result<ArrayRef>;
/// Complains of constant arguments (a pattern), before anything runs.
type Check = fn(&[Option<&ScalarValue>]) -> Result<()>;

/// A Spark function.
#[derive(Debug, Clone)]
pub(super) struct SparkFunction {
    name: &'static str,
    signature: Signature,
    coerce: Coerce,
    returns: DataType,
    body: Body,
    check: Check,
}

impl SparkFunction {
    pub(super) fn new(name: &'static str, coerce: Coerce, returns: DataType, body: Body) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { name, signature, coerce, returns, body, check: |_| Ok(()) }
    }

    pub(super) fn with_check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }
}

impl PartialEq for SparkFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for SparkFunction {}

impl Hash for SparkFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for SparkFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<arrow::datatypes::FieldRef> {
        (self.check)(args.scalar_arguments)?;
        Ok(std::sync::Arc::new(arrow::datatypes::Field::new(self.name, self.returns.clone(), true)))
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        (self.coerce)(found).or_else(|expected| {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            plan_err!("{} takes {expected}, not ({})", self.name, found.join(", "))
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let array = (self.body)(&args.args, rows)?;
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

/// The text of a constant argument, if it is one.
pub(super) fn constant_text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => {
            text.as_deref()
        }
        _ => None,
    }
}

/// True for the types of text.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null)
}
