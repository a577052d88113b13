//! The hash by which the rows of a table are known again, whatever files they lie in. Pure.
//!
//! A commit notes, for each range that it covers, the wrapping sum of the hashes of its rows, computed from the rows as they
//! are written. `pinmill audit` computes it again from the files. It finds a row that is lost, doubled or changed, and a
//! value that moved to another row; it is not made against somebody who forges a sum on purpose.
//!
//! A row's hash is that of its values that are not NULL, each under the name of its column, the columns that say which
//! record it is among them. So it stays the same when
//!
//! - rows are put in another order, into other files, or into other batches;
//! - a column is added, as NULL;
//! - a type is widened, or a value is stored in another encoding of the same type.
//!
//! | value | hashed as |
//! | --- | --- |
//! | whole number, of whatever type | `i64`; a double or decimal that is whole too, but for -0.0 |
//! | other double | its bits as a 64-bit double, all NaN alike |
//! | other decimal | digits and scale, without zeros at the end |
//! | boolean, date, timestamp | 0 or 1, days, microseconds |
//! | string, binary | up to 12 bytes as they are, longer ones by xxh3 |
//! | array | its elements in order, NULL among them |
//! | struct | its fields that are not NULL, by name |
//!
//! These hashes stand in commits: a change here makes every audit of an older table fail.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericBinaryArray, GenericListArray, GenericStringArray, OffsetSizeTrait,
    PrimitiveArray, RecordBatch,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use twox_hash::XxHash3_64;

// What kind of value it is. Odd numbers without a pattern.
const WHOLE: u64 = 0x9e37_79b9_7f4a_7c15;
const FLOAT: u64 = 0xc2b2_ae3d_27d4_eb4f;
const DECIMAL: u64 = 0x1656_67b1_9e37_79f9;
const BOOLEAN: u64 = 0xd6e8_feb8_6659_fd93;
const DATE: u64 = 0xa076_1d64_78bd_642f;
const TIMESTAMP: u64 = 0xe703_7ed1_a0b4_28db;
const BYTES: u64 = 0x8ebc_6af0_9c88_c6e3;
const LIST: u64 = 0x5899_65cc_7537_4cc3;
const STRUCT: u64 = 0x1d8e_4e27_c47d_124f;

/// The longest string that an Arrow view holds itself.
const SHORT: usize = 12;

/// The hash of each row of a batch.
///
/// # Errors
/// Names a column whose type cannot be hashed: no table of pinmill's has one.
pub fn row_hashes(batch: &RecordBatch) -> Result<Vec<u64>, String> {
    let mut rows = vec![0; batch.num_rows()];
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let named =
            |data_type: DataType| format!("column `{}` of type {data_type} cannot be hashed", field.name());
        add(column, seed(field.name()), &mut rows).map_err(named)?;
    }
    // Not linear, so that a value that goes from one row to another shows.
    rows.iter_mut().for_each(|row| *row = finish(*row));
    Ok(rows)
}

/// The wrapping sum of the hashes of all rows of a batch.
///
/// # Errors
/// As [`row_hashes`].
pub fn rows_hash(batch: &RecordBatch) -> Result<u64, String> {
    Ok(row_hashes(batch)?.into_iter().fold(0, u64::wrapping_add))
}

fn seed(name: &str) -> u64 {
    XxHash3_64::oneshot(name.as_bytes())
}

/// The two halves of a product, folded: every bit of both factors counts.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The last step of MurmurHash3.
fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn whole(value: i64, seed: u64) -> u64 {
    mix(value as u64 ^ seed, WHOLE)
}

fn float(value: f64, seed: u64) -> u64 {
    // -0.0 is another value than 0.0.
    let is_negative_zero = value == 0.0 && value.is_sign_negative();
    if value.trunc() == value && value.abs() < 9e18 && !is_negative_zero {
        return whole(value as i64, seed);
    }
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    mix(bits ^ seed, FLOAT)
}

fn decimal(mut digits: i128, mut scale: i8, seed: u64) -> u64 {
    while scale > 0 && digits % 10 == 0 {
        digits /= 10;
        scale -= 1;
    }
    match i64::try_from(digits) {
        Ok(value) if scale == 0 => whole(value, seed),
        _ => {
            let mut bytes = [0; 17];
            bytes[..16].copy_from_slice(&digits.to_le_bytes());
            bytes[16] = scale.to_le_bytes()[0];
            XxHash3_64::oneshot_with_seed(seed ^ DECIMAL, &bytes)
        }
    }
}

/// A string of up to [`SHORT`] bytes, in the form that an Arrow view has it in: length, bytes, zeros.
fn short(view: u128, seed: u64) -> u64 {
    mix(view as u64 ^ seed, (view >> 64) as u64 ^ BYTES)
}

fn bytes(value: &[u8], seed: u64) -> u64 {
    if value.len() > SHORT {
        return XxHash3_64::oneshot_with_seed(seed, value);
    }
    let mut view = [0; 16];
    view[0] = value.len() as u8;
    view[4..4 + value.len()].copy_from_slice(value);
    short(u128::from_le_bytes(view), seed)
}

/// Adds the hash of each value to its row; NULL adds nothing. An error is the type that cannot be hashed.
fn add(column: &ArrayRef, seed: u64, rows: &mut [u64]) -> Result<(), DataType> {
    match column.data_type() {
        DataType::Null => {}
        DataType::Int8 => primitive::<Int8Type>(column, rows, |value| whole(value.into(), seed)),
        DataType::Int16 => primitive::<Int16Type>(column, rows, |value| whole(value.into(), seed)),
        DataType::Int32 => primitive::<Int32Type>(column, rows, |value| whole(value.into(), seed)),
        DataType::Int64 => primitive::<Int64Type>(column, rows, |value| whole(value, seed)),
        DataType::Float32 => primitive::<Float32Type>(column, rows, |value| float(value.into(), seed)),
        DataType::Float64 => primitive::<Float64Type>(column, rows, |value| float(value, seed)),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            primitive::<Decimal128Type>(column, rows, |value| decimal(value, scale, seed));
        }
        DataType::Date32 => {
            primitive::<Date32Type>(column, rows, |value| mix(i64::from(value) as u64 ^ seed, DATE));
        }
        DataType::Timestamp(unit, _) => timestamp(column, *unit, seed, rows),
        DataType::Boolean => {
            let column = column.as_boolean();
            each(column, rows, |row| mix(u64::from(column.value(row)) ^ seed, BOOLEAN));
        }
        DataType::Utf8 => text(column.as_string::<i32>(), seed, rows),
        DataType::LargeUtf8 => text(column.as_string::<i64>(), seed, rows),
        DataType::Binary => binary(column.as_binary::<i32>(), seed, rows),
        DataType::LargeBinary => binary(column.as_binary::<i64>(), seed, rows),
        DataType::Utf8View => {
            let column = column.as_string_view();
            views(column, column.views(), rows, seed, |row| column.value(row).as_bytes());
        }
        DataType::BinaryView => {
            let column = column.as_binary_view();
            views(column, column.views(), rows, seed, |row| column.value(row));
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            if dictionary.values().is_empty() {
                // All rows are NULL, or there are none; arrow's keys of such a dictionary cannot be read.
                return Ok(());
            }
            let mut values = vec![0; dictionary.values().len()];
            add(dictionary.values(), seed, &mut values)?;
            let keys = dictionary.normalized_keys();
            each(column, rows, |row| values[keys[row]]);
        }
        DataType::List(_) => list(column.as_list::<i32>(), seed, rows)?,
        DataType::LargeList(_) => list(column.as_list::<i64>(), seed, rows)?,
        DataType::Struct(fields) => {
            let structs = column.as_struct();
            let mut values = vec![0; column.len()];
            for (field, child) in fields.iter().zip(structs.columns()) {
                add(child, mix(seed ^ self::seed(field.name()), STRUCT), &mut values)?;
            }
            each(column, rows, |row| mix(finish(values[row]) ^ seed, STRUCT));
        }
        other => return Err(other.clone()),
    }
    Ok(())
}

/// Adds to each row that is not NULL what `hash` makes of it.
fn each(column: &dyn Array, rows: &mut [u64], hash: impl Fn(usize) -> u64) {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => rows.iter_mut().enumerate().for_each(|(row, sum)| *sum = sum.wrapping_add(hash(row))),
        Some(nulls) => {
            for row in nulls.valid_indices() {
                rows[row] = rows[row].wrapping_add(hash(row));
            }
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef, rows: &mut [u64], hash: impl Fn(T::Native) -> u64) {
    let column: &PrimitiveArray<T> = column.as_primitive();
    let values = column.values();
    each(column, rows, |row| hash(values[row]));
}

fn timestamp(column: &ArrayRef, unit: TimeUnit, seed: u64, rows: &mut [u64]) {
    let micros = |value: i64| mix(value as u64 ^ seed, TIMESTAMP);
    match unit {
        TimeUnit::Second => {
            primitive::<TimestampSecondType>(column, rows, |value| micros(value.wrapping_mul(1_000_000)));
        }
        TimeUnit::Millisecond => {
            primitive::<TimestampMillisecondType>(column, rows, |value| micros(value.wrapping_mul(1000)));
        }
        TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(column, rows, micros),
        TimeUnit::Nanosecond => {
            primitive::<TimestampNanosecondType>(column, rows, |value| micros(value.div_euclid(1000)));
        }
    }
}

fn text<O: OffsetSizeTrait>(column: &GenericStringArray<O>, seed: u64, rows: &mut [u64]) {
    each(column, rows, |row| bytes(column.value(row).as_bytes(), seed));
}

fn binary<O: OffsetSizeTrait>(column: &GenericBinaryArray<O>, seed: u64, rows: &mut [u64]) {
    each(column, rows, |row| bytes(column.value(row), seed));
}

fn views<'a>(
    column: &dyn Array,
    views: &[u128],
    rows: &mut [u64],
    seed: u64,
    long: impl Fn(usize) -> &'a [u8],
) {
    each(column, rows, |row| match views[row] {
        view if view as u32 as usize <= SHORT => short(view, seed),
        _ => XxHash3_64::oneshot_with_seed(seed, long(row)),
    });
}

fn list<O: OffsetSizeTrait>(
    column: &GenericListArray<O>,
    seed: u64,
    rows: &mut [u64],
) -> Result<(), DataType> {
    let offsets = column.value_offsets();
    let bounds = |row: usize| -> Range<usize> { offsets[row].as_usize()..offsets[row + 1].as_usize() };
    let used = match column.len() {
        0 => 0..0,
        len => offsets[0].as_usize()..offsets[len].as_usize(),
    };
    let mut elements = vec![0; used.len()];
    add(&column.values().slice(used.start, used.len()), mix(seed, LIST), &mut elements)?;
    each(column, rows, |row| {
        let Range { start, end } = bounds(row);
        let start_hash = mix((end - start) as u64 ^ seed, LIST);
        let elements = &elements[start - used.start..end - used.start];
        elements.iter().fold(start_hash, |hash, element| mix(hash.rotate_left(23) ^ element, LIST))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
        Int64Array, LargeStringArray, ListArray, StringArray, StringViewArray, StructArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::Field;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    fn hash(column: impl Array + 'static) -> u64 {
        rows_hash(&batch(vec![("c", Arc::new(column))])).unwrap()
    }

    fn lists(values: Vec<Option<Vec<Option<i32>>>>) -> ListArray {
        ListArray::from_iter_primitive::<Int32Type, _, _>(values)
    }

    const LONG: &str = "a string that no view holds itself";

    fn sample() -> RecordBatch {
        batch(vec![
            ("_offset", Arc::new(Int64Array::from(vec![0, 1, 2, 3]))),
            ("title", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some(LONG)]))),
            ("likes", Arc::new(Int32Array::from(vec![Some(7), None, Some(0), Some(7)]))),
            (
                "tags",
                Arc::new(lists(vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(1)])])),
            ),
        ])
    }

    #[test]
    fn the_hashes_never_change_between_versions() {
        // They stand in commits.
        assert_eq!(rows_hash(&sample()).unwrap(), GOLDEN);
    }

    const GOLDEN: u64 = 5_533_088_749_647_162_977;

    #[test]
    fn order_batches_and_columns_of_null_make_no_difference() {
        let all = sample();
        let whole = rows_hash(&all).unwrap();
        let parts = [all.slice(2, 2), all.slice(0, 2)];
        let sum = parts.iter().map(|part| rows_hash(part).unwrap()).fold(0, u64::wrapping_add);
        assert_eq!(sum, whole);
        assert_eq!(rows_hash(&concat_batches(&all.schema(), &parts).unwrap()).unwrap(), whole);
        let mut columns: Vec<(&str, ArrayRef)> =
            vec![("new", Arc::new(StringArray::new_null(4))), ("newer", Arc::new(Int32Array::new_null(4)))];
        let schema = all.schema();
        let old = schema.fields().iter().zip(all.columns()).rev();
        columns.extend(old.map(|(field, column)| (field.name().as_str(), Arc::clone(column))));
        assert_eq!(rows_hash(&batch(columns)).unwrap(), whole);
    }

    #[test]
    fn wider_types_and_other_encodings_make_no_difference() {
        let ints = [Some(7), None, Some(-1)];
        let as_i32 = hash(Int32Array::from(ints.to_vec()));
        assert_eq!(hash(Int8Array::from(ints.map(|n| n.map(|n: i32| n as i8)).to_vec())), as_i32);
        assert_eq!(hash(Int64Array::from(ints.map(|n| n.map(i64::from)).to_vec())), as_i32);
        assert_eq!(hash(Float64Array::from(ints.map(|n| n.map(f64::from)).to_vec())), as_i32);
        let decimal = Decimal128Array::from(ints.map(|n| n.map(|n| i128::from(n) * 100)).to_vec());
        assert_eq!(hash(decimal.with_precision_and_scale(12, 2).unwrap()), as_i32);
        let (fine, coarse) = (Decimal128Array::from(vec![1250]), Decimal128Array::from(vec![125]));
        let scaled = |array: Decimal128Array, scale| hash(array.with_precision_and_scale(20, scale).unwrap());
        assert_eq!(scaled(fine, 3), scaled(coarse, 2));
        assert_eq!(
            hash(Float32Array::from(vec![0.5, f32::NAN])),
            hash(Float64Array::from(vec![0.5, f64::NAN]))
        );
        let texts = [Some("short"), None, Some(LONG), Some(""), Some("twelve bytes"), Some("thirteen byte")];
        let as_utf8 = hash(StringArray::from(texts.to_vec()));
        assert_eq!(hash(StringViewArray::from(texts.to_vec())), as_utf8);
        assert_eq!(hash(LargeStringArray::from(texts.to_vec())), as_utf8);
        assert_eq!(hash(DictionaryArray::<Int8Type>::from_iter(texts)), as_utf8);
        // A dictionary without values: no rows, or none that is not NULL.
        let nothing: [Option<&str>; 2] = [None, None];
        let empty = DictionaryArray::<Int8Type>::from_iter(nothing);
        assert_eq!(hash(empty.slice(0, 0)), hash(StringArray::from(Vec::<&str>::new())));
        assert_eq!(hash(empty), hash(StringArray::from(nothing.to_vec())));
        let micros = TimestampMicrosecondArray::from(vec![-1_500_001, 7]).with_timezone("UTC");
        assert_eq!(hash(TimestampNanosecondArray::from(vec![-1_500_001_000, 7_999])), hash(micros));
    }

    #[test]
    fn a_changed_a_lost_and_a_swapped_value_show() {
        let title = |titles: [Option<&str>; 2], likes: [Option<i32>; 2]| {
            rows_hash(&batch(vec![
                ("title", Arc::new(StringArray::from(titles.to_vec()))),
                ("likes", Arc::new(Int32Array::from(likes.to_vec()))),
            ]))
            .unwrap()
        };
        let whole = title([Some("a"), Some("b")], [Some(1), Some(2)]);
        for other in [
            title([Some("b"), Some("a")], [Some(1), Some(2)]),
            title([Some("a"), Some("c")], [Some(1), Some(2)]),
            title([Some("a"), None], [Some(1), Some(2)]),
            title([Some("a"), Some("")], [Some(1), Some(2)]),
            title([Some("a"), Some("b")], [Some(2), Some(1)]),
            title([Some("a"), Some("b")], [Some(1), Some(1)]),
        ] {
            assert_ne!(other, whole);
        }
        let mut seen = std::collections::BTreeSet::new();
        let values: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![0.0])),
            Arc::new(Float64Array::from(vec![-0.0])),
            Arc::new(Float64Array::from(vec![0.5])),
            Arc::new(Float64Array::from(vec![f64::INFINITY])),
            Arc::new(BooleanArray::from(vec![false])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(StringArray::from(vec!["0"])),
            Arc::new(StringArray::from(vec![""])),
            Arc::new(StringArray::from(vec!["\0"])),
            Arc::new(StringArray::new_null(1)),
            Arc::new(TimestampMicrosecondArray::from(vec![0])),
            Arc::new(lists(vec![Some(vec![])])),
            Arc::new(lists(vec![Some(vec![None])])),
            Arc::new(lists(vec![Some(vec![None, None])])),
            Arc::new(lists(vec![Some(vec![Some(0), Some(1)])])),
            Arc::new(lists(vec![Some(vec![Some(1), Some(0)])])),
        ];
        for value in values {
            let text = format!("{value:?}");
            assert!(seen.insert(rows_hash(&batch(vec![("c", value)])).unwrap()), "{text}");
        }
    }

    #[test]
    fn fields_of_structs_count_by_name_and_lists_by_their_own_part_of_the_values() {
        let of = |names: [&str; 2], values: [Option<i32>; 2]| {
            let fields = names.map(|name| Arc::new(Field::new(name, DataType::Int32, true)));
            let columns = values.map(|value| Arc::new(Int32Array::from(vec![value])) as ArrayRef);
            hash(StructArray::new(fields.to_vec().into(), columns.to_vec(), None))
        };
        let whole = of(["x", "y"], [Some(1), Some(2)]);
        assert_eq!(of(["y", "x"], [Some(2), Some(1)]), whole);
        assert_ne!(of(["x", "y"], [Some(2), Some(1)]), whole);
        assert_eq!(of(["x", "y"], [Some(1), None]), of(["x", "z"], [Some(1), None]));
        let all = lists(vec![Some(vec![Some(1)]), Some(vec![Some(2), Some(3)]), Some(vec![Some(4)])]);
        assert_eq!(hash(all.slice(1, 1)), hash(lists(vec![Some(vec![Some(2), Some(3)])])));
    }
}
