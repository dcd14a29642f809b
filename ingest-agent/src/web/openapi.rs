//! `/api/v1/openapi.json`: the API described by the very types that it answers with.

use schemars::{
    JsonSchema,
    generate::{SchemaGenerator, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::{
    query::StreamQuery,
    rows::{
        BackendList, DropList, FailoverList, Overview, Problem, RouteList, ServiceList, StreamList,
        StreamSessions,
    },
};

/// The document, OpenAPI 3.1.
pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.for_serialize().into_generator();
    let mut paths = Map::new();
    let mut path = |path: &str, summary: &str, schema: Value, parameters: Vec<Value>| {
        let answers = answers(&schema, &parameters);
        let id = path.split('/').nth(1).unwrap_or_default();
        let of_one = if path.ends_with('}') { "_one" } else { "" };
        let operation = json!({
            "operationId": format!("{id}{of_one}"),
            "summary": summary,
            "parameters": parameters,
            "responses": answers,
        });
        paths.insert(format!("/api/v1{path}"), json!({ "get": operation }));
    };
    let none = Vec::new;
    path(
        "/overview",
        "This node at a glance",
        of::<Overview>(&mut schemas),
        none(),
    );
    path(
        "/streams",
        "Streams, filtered, sorted, some at a time",
        of::<StreamList>(&mut schemas),
        parameters(),
    );
    path(
        "/streams/{id}",
        "One stream with its thresholds and its last minute",
        of::<StreamSessions>(&mut schemas),
        vec![id()],
    );
    path(
        "/services",
        "Services",
        of::<ServiceList>(&mut schemas),
        none(),
    );
    path(
        "/backends",
        "Pods that are steered to",
        of::<BackendList>(&mut schemas),
        none(),
    );
    path(
        "/routes",
        "Routes by Stream ID",
        of::<RouteList>(&mut schemas),
        none(),
    );
    path(
        "/drops",
        "Packets dropped and left to the host, by reason",
        of::<DropList>(&mut schemas),
        none(),
    );
    path(
        "/failovers",
        "The last failovers",
        of::<FailoverList>(&mut schemas),
        none(),
    );
    path(
        "/openapi.json",
        "This document",
        json!({ "type": "object" }),
        none(),
    );
    let _ = of::<Problem>(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ingest",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Streams, backends and drops of one node, as its agent sees them. Read-only. Fields may be \
                            added; none is renamed or removed within v1.",
        },
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    })
}

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

/// What can come back. Only what is asked something can be asked nonsense.
fn answers(schema: &Value, parameters: &[Value]) -> Value {
    let content = |schema: &Value| json!({ "application/json": { "schema": schema } });
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let failed = |text: &str| json!({ "description": text, "content": content(&problem) });
    let mut answers = json!({
        "200": { "description": "What was asked for", "content": content(schema) },
        "500": failed("The maps could not be read"),
    });
    match parameters.first().map(|parameter| &parameter["in"]) {
        Some(place) if place == "path" => answers["404"] = failed("No stream has this id"),
        Some(_) => answers["400"] = failed("The question makes no sense"),
        None => {}
    }
    answers
}

fn id() -> Value {
    json!({
        "name": "id",
        "in": "path",
        "required": true,
        "description": "`id` of a stream",
        "schema": { "type": "string" },
    })
}

/// Of a list of streams: the fields of [`StreamQuery`].
fn parameters() -> Vec<Value> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings
        .into_generator()
        .into_root_schema_for::<StreamQuery>();
    let properties = schema.get("properties").and_then(Value::as_object).cloned();
    let of_one = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|s| s.remove("description"));
        json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
    };
    properties.into_iter().flatten().map(of_one).collect()
}
