//! Secrets are read where a policy names them, and only those.

use model::EndpointName;

use crate::ground::{Ground, policy};

#[tokio::test]
async fn a_secret_is_read_as_soon_and_as_long_as_a_policy_names_it() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    let name = |name: &str| EndpointName { namespace: namespace.clone(), name: name.into() };
    let secret = |name: &str, value: &str| {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, \
             type: Opaque, data: {{tls.key: {value}}}}}"
        )
    };
    let plain = policy(&namespace, "web", "203.0.113.1/32");
    let tls = format!(
        "{plain}    toPorts: [{{ports: [{{port: '443', protocol: TCP}}], terminatingTLS: \
         {{secret: {{name: wanted}}}}, originatingTLS: {{secret: {{name: later}}}}}}]\n"
    );
    for own in ["wanted", "other"] {
        ground.apply(&secret(own, "b25l")).await;
    }
    ground.apply(&plain).await;
    let mut watched = ground.watch().await;
    // A real cluster may have policies of others.
    let own = |now: &kubernetes::Inventory| {
        now.secrets.keys().filter(|name| name.namespace == namespace).count()
    };
    assert_eq!(own(&watched.now()), 0);

    ground.apply(&tls).await;
    let value = |now: &kubernetes::Inventory, own: &str| {
        let secret = now.secrets.get(&name(own))?;
        secret.values.get("tls.key").map(|value| value.0.clone())
    };
    let one = |now: &kubernetes::Inventory| value(now, "wanted").as_deref() == Some("one");
    let now = watched.until("the Secret", one).await;
    assert_eq!(own(&now), 1);
    ground.apply(&secret("wanted", "dHdv")).await;
    ground.apply(&secret("later", "dHdv")).await;
    let two = |now: &kubernetes::Inventory| {
        ["wanted", "later"].iter().all(|own| value(now, own).as_deref() == Some("two"))
    };
    watched.until("its other value, and one that comes later", two).await;
    ground.apply(&plain).await;
    watched.until("nobody names them", |now| own(now) == 0).await;
    ground.end().await;
}
