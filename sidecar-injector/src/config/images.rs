//! Image names of the proxy.

use super::Config;

const VARIANTS: [&str; 3] = ["-debug", "-distroless", "-default"];

impl Config {
    /// Image of the proxy. `variant` is the annotation `sidecar.istio.io/proxyImageType`: `debug`
    /// and `distroless` become a suffix of the tag and replace an existing one.
    pub fn proxy_image(&self, variant: Option<&str>) -> String {
        self.image("/global/proxy/image", variant)
    }

    /// Image of the init container.
    pub fn proxy_init_image(&self, variant: Option<&str>) -> String {
        self.image("/global/proxy_init/image", variant)
    }

    fn image(&self, pointer: &str, variant: Option<&str>) -> String {
        let image = self.text(pointer);
        let image = if image.contains('/') {
            image.to_owned()
        } else {
            // In YAML a tag may be a number.
            let tag = match self.value("/global/tag") {
                Some(serde_json::Value::String(tag)) if !tag.is_empty() => tag.clone(),
                Some(serde_json::Value::Number(tag)) => tag.to_string(),
                _ => mesh_common::version::INFO.tag.to_owned(),
            };
            format!("{}/{image}:{tag}", self.text("/global/hub"))
        };
        let variant = variant.unwrap_or_else(|| self.text("/global/variant"));
        if variant.is_empty() {
            return image;
        }
        let plain = VARIANTS
            .iter()
            .find_map(|suffix| image.strip_suffix(suffix))
            .unwrap_or(&image);
        if variant == "default" {
            plain.to_owned()
        } else {
            format!("{plain}-{variant}")
        }
    }
}
