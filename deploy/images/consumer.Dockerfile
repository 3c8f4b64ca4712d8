# The consumer's image: one static binary and the certificate authorities it trusts. `make images` builds both and this.
FROM scratch
ARG VERSION REVISION CREATED SOURCE
LABEL org.opencontainers.image.title="Coinduit consumer" \
      org.opencontainers.image.description="Kafka to S3, each record exactly once" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY consumer /consumer
USER 65532:65532
EXPOSE 9090
# Whether it lives, which is what restarting can mend. Whether it keeps up is /consumer health.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/consumer", "health", "--live"]
ENTRYPOINT ["/consumer"]
